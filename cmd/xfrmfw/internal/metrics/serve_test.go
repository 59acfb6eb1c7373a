package metrics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/rundir"
)

// silence is how long the tests' server waits for a client that says nothing: longer than a
// busy machine takes for a scrape, so that one which waits for such a client is told from a
// slow one.
const silence = 2 * time.Minute

// serve serves no tunnels until the test ends, and returns how to end it before.
func serve(t *testing.T, l net.Listener) func() {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- serveClients(ctx, l, silence, "v0", NewRecorder(), NewTunnels(still(State{}), 10))
	}()
	end := sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(end)
	return end
}

// loopback listens on a free port, which Listen wants to be named.
func loopback(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	if l, err = Listen(address); err != nil {
		t.Fatal(err)
	}
	return l
}

func TestServe(t *testing.T) {
	t.Parallel()
	l := loopback(t)
	end := serve(t, l)
	base := "http://" + l.Addr().String()
	for _, tt := range []struct {
		method, path string
		want         int
	}{
		{http.MethodGet, "/metrics", 200}, {http.MethodGet, "/metrics?x=1", 200}, {http.MethodPost, "/metrics", 405}, {http.MethodDelete, "/metrics", 405},
		{http.MethodGet, "/", 404}, {http.MethodGet, "/debug/pprof/", 404}, {http.MethodGet, "/metrics/x", 404},
	} {
		req, err := http.NewRequest(tt.method, base+tt.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if res.StatusCode != tt.want || (tt.want == 200) != strings.Contains(string(body), "xfrmfw_reads_total 1") {
			t.Errorf("%s %s: %s, %.100s", tt.method, tt.path, res.Status, body)
		}
	}
	req, _ := http.NewRequest(http.MethodGet, base+"/metrics", nil)
	req.Header.Set("X", strings.Repeat("x", 64<<10))
	if res, err := http.DefaultClient.Do(req); err == nil {
		_ = res.Body.Close()
		if res.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("64 KiB of header: %s", res.Status)
		}
	}
	end()
	if c, err := net.Dial("tcp", l.Addr().String()); err == nil {
		_ = c.Close()
		t.Error("still listening")
	}
}

// Clients that open connections and say nothing, or half of a request, take no
// more of the daemon's descriptors than there are slots, and a scrape does not
// wait for them.
func TestServeHoldsFewConnections(t *testing.T) {
	t.Parallel()
	l := loopback(t)
	serve(t, l)
	var conns []net.Conn
	for i := range 3 * maxConnections {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		if i%2 == 0 {
			_, _ = fmt.Fprint(c, "GET /metrics HTTP/1.1\r\nHost:")
		}
		conns = append(conns, c)
	}
	begun := time.Now()
	res, err := new(http.Client).Get("http://" + l.Addr().String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if took := time.Since(begun); res.StatusCode != http.StatusOK || took > silence/2 {
		t.Errorf("%s after %s, beside %d others", res.Status, took, len(conns))
	}
	for i, c := range conns[:len(conns)-maxConnections+1] {
		_ = c.SetDeadline(time.Now().Add(silence / 2)) // before the time for a header is over
		if _, err := io.ReadAll(c); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("connection %d of %d is held open", i, len(conns))
		}
	}
}

// A connection that is being answered keeps its place until the answer is written.
func TestBoundedSparesAnswers(t *testing.T) {
	t.Parallel()
	b := newBounded(loopback(t), 1)
	defer b.Close()
	dial := func() net.Conn {
		c, err := net.Dial("tcp", b.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	client := dial()
	first, err := b.Accept()
	if err != nil {
		t.Fatal(err)
	}
	first.(*slot).setBusy(true)
	dial()
	accepted := make(chan error)
	go func() {
		_, err := b.Accept()
		accepted <- err
	}()
	select {
	case err := <-accepted:
		t.Fatalf("a second connection has room beside an answer: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	if _, err := first.Write([]byte("answer")); err != nil {
		t.Errorf("the answer: %v", err)
	}
	first.(*slot).setBusy(false)
	if err := <-accepted; err != nil {
		t.Error(err)
	}
	if got, err := io.ReadAll(client); string(got) != "answer" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestListenUnix(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "m.sock")
	get := func() error {
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}}}
		res, err := client.Get("http://x/metrics")
		if err == nil {
			_ = res.Body.Close()
		}
		return err
	}
	for range 2 { // the second replaces the socket that the first left
		l, err := Listen("unix:" + path)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Lstat(path)
		if err != nil || info.Mode() != os.ModeSocket|0o660 {
			t.Fatalf("%v, %v", info.Mode(), err)
		}
		end := serve(t, l)
		if err := get(); err != nil {
			t.Error(err)
		}
		end()
		if get() == nil {
			t.Error("still served")
		}
	}
	if left, _ := filepath.Glob(path + ".*"); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// A link or another's socket in the place of the fresh one keeps its mode.
func TestShareChangesItsOwnSocketAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "other"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if err := os.Chmod(filepath.Join(dir, "other"), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := rundir.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for name, put := range map[string]func(string) error{
		"link":        func(path string) error { return os.Symlink(secret, path) },
		"second name": func(path string) error { return os.Link(filepath.Join(dir, "other"), path) },
		"file":        func(path string) error { return os.WriteFile(path, nil, 0o600) },
	} {
		if err := put(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		if err := shareSocket(d, name); err == nil {
			t.Errorf("a %s is shared", name)
		}
	}
	for _, name := range []string{"secret", "other", "file"} {
		if info, err := os.Lstat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}

func TestListenRefuses(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	l := loopback(t)
	defer func() { _ = l.Close() }()
	for address, want := range map[string]string{
		"0.0.0.0:9863":      "is not a loopback address",
		"192.0.2.1:9863":    "is not a loopback address",
		"unix:" + file:      "is not a socket",
		"unix:/nowhere/m":   "no such file",
		l.Addr().String():   "address already in use",
		"unix:metrics.sock": "absolute",
	} {
		if l, err := Listen(address); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v; want %s", address, l, err, want)
		}
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "precious" {
		t.Errorf("%q, %v", text, err)
	}
}
