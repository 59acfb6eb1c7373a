package metrics

import (
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"
)

// Clients that are silent at any point of a request or of its answer do not delay a scrape.
func TestServeBesideSilentClients(t *testing.T) {
	for _, tt := range []struct{ name, sent string }{
		{"nothing", ""},
		{"half of a header", "GET /metrics HTTP/1.1\r\nHost:"},
		{"a request", "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"},
		{"a header without its body", "GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"},
		{"half of a body", "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345"},
		{"a body that waits to be asked for", "POST /metrics HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n"},
		{"a chunk without an end", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := loopback(t)
			serve(t, l)
			for range 40 {
				c, err := net.Dial("tcp", l.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = c.Close() }()
				_, _ = fmt.Fprint(c, tt.sent)
			}
			time.Sleep(100 * time.Millisecond) // until the server has read the request
			began := time.Now()
			client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: silence}
			res, err := client.Get("http://" + l.Addr().String() + "/metrics")
			if err != nil {
				t.Fatal(err)
			}
			_ = res.Body.Close()
			if took := time.Since(began); took > silence/2 {
				t.Errorf("a scrape took %s", took)
			}
		})
	}
}

// A client that does not read its answer gives its place to another one.
func TestBoundedEvictsStalledReader(t *testing.T) {
	t.Parallel()
	b := newBounded(loopback(t), 1)
	defer b.Close()
	dial := func() {
		c, err := net.Dial("tcp", b.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	dial()
	first, err := b.Accept()
	if err != nil {
		t.Fatal(err)
	}
	first.(*slot).setBusy(true)
	written := make(chan error)
	go func() {
		_, err := first.Write(make([]byte, 64<<20))
		written <- err
	}()
	dial()
	began := time.Now()
	if _, err := b.Accept(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < stalled/2 || took > time.Minute {
		t.Errorf("another client waited %s", took)
	}
	if err := <-written; err == nil {
		t.Error("the answer that was not read counts as written")
	}
}
