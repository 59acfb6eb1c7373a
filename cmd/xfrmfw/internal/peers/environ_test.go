package peers

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// charon and pluto are environments as the daemons set them.
var (
	charon = []string{
		"PATH=/usr/bin", "PLUTO_VERSION=1.1", "PLUTO_VERB=up-client", "PLUTO_CONNECTION=rw", "PLUTO_INTERFACE=eth0", "PLUTO_REQID=3",
		"PLUTO_PROTO=esp", "PLUTO_UNIQUEID=7", "PLUTO_ME=192.0.2.2", "PLUTO_MY_ID=sun", "PLUTO_MY_CLIENT=10.2.0.0/24", "PLUTO_MY_PORT=0",
		"PLUTO_MY_PROTOCOL=0", "PLUTO_PEER=198.51.100.1", "PLUTO_PEER_ID=C=CH, CN=carol", "PLUTO_PEER_CLIENT=10.3.0.1/32",
		"PLUTO_PEER_PORT=0", "PLUTO_PEER_PROTOCOL=0", "PLUTO_XAUTH_ID=carol", "PLUTO_PEER_SOURCEIP=10.3.0.1", "PLUTO_PEER_SOURCEIP4_1=10.3.0.1",
		"PLUTO_PEER_SOURCEIP6_1=fd00:3::1", "PLUTO_UDP_ENC=4500",
	}
	pluto = []string{
		"PLUTO_VERB=up-client", "PLUTO_CONNECTION=net", "PLUTO_CONNECTION_TYPE=tunnel", "PLUTO_ME=192.0.2.2", "PLUTO_MY_CLIENT=10.2.0.0/24",
		"PLUTO_MY_PORT=0", "PLUTO_MY_PROTOCOL=6", "PLUTO_SA_REQID=16389", "PLUTO_SA_TYPE=ESP", "PLUTO_PEER=192.0.2.1", "PLUTO_PEER_ID=@moon",
		"PLUTO_PEER_CLIENT=10.1.0.0/24", "PLUTO_PEER_PORT=443", "PLUTO_PEER_PROTOCOL=6", "PLUTO_STACK=xfrm", "PLUTO_USERNAME=",
	}
)

func TestFromEnviron(t *testing.T) {
	got, err := FromEnviron(charon)
	if err != nil {
		t.Fatal(err)
	}
	want := Event{Up, Record{
		Daemon: StrongSwan, Connection: "rw", PeerID: "C=CH, CN=carol", User: "carol",
		VirtualIPs: []netip.Addr{netip.MustParseAddr("10.3.0.1"), netip.MustParseAddr("fd00:3::1")},
		Local:      netip.MustParsePrefix("10.2.0.0/24"), Remote: netip.MustParsePrefix("10.3.0.1/32"),
		Outer: netip.MustParseAddr("198.51.100.1"), OuterPort: 4500, Reqid: 3, Serial: 7,
	}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("of charon:\ngot  %+v\nwant %+v", got, want)
	}
	if id := got.Record.Identity(); id != "carol" {
		t.Errorf("identity %q, want the user: the IKE identity was the client's to choose", id)
	}
	got, err = FromEnviron(pluto)
	if err != nil {
		t.Fatal(err)
	}
	want = Event{Up, Record{
		Daemon: Libreswan, Connection: "net", PeerID: "@moon", VirtualIPs: []netip.Addr{},
		Local: netip.MustParsePrefix("10.2.0.0/24"), Remote: netip.MustParsePrefix("10.1.0.0/24"),
		Proto: 6, RemotePort: Ports{443, 443}, Outer: netip.MustParseAddr("192.0.2.1"), Reqid: 16389,
	}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("of pluto:\ngot  %+v\nwant %+v", got, want)
	}
}

func TestVerbs(t *testing.T) {
	for verb, want := range map[string]Kind{
		"up-client": Up, "up-client-v6": Up, "up-host": Up, "up-host-v6": Up, "down-client": Down, "down-host-v6": Down,
		"prepare-client": Other, "route-host": Other, "unroute-client-v6": Other, "": Other, "up": Other, "up-client-v7": Other, "up-client; reboot": Other,
	} {
		env := append([]string{"PLUTO_VERB=" + verb}, charon...)
		if got, err := FromEnviron(env); got.Kind != want || err != nil {
			t.Errorf("%q: kind %d (%v), want %d", verb, got.Kind, err, want)
		}
	}
}

// TestEnvironmentThatMakesNoSense wants an error that names the variable and
// shows no more than a little of it, cleaned.
func TestEnvironmentThatMakesNoSense(t *testing.T) {
	evil := "\x1b[2J\n" + strings.Repeat("A", 1<<16)
	for name, entry := range map[string]string{
		"PLUTO_REQID": "PLUTO_REQID=1\n-A INPUT -j ACCEPT", "PLUTO_MY_CLIENT": "PLUTO_MY_CLIENT=" + evil,
		"PLUTO_PEER_CLIENT": "PLUTO_PEER_CLIENT=0.0.0.0/0 -j ACCEPT",
		"families":          "PLUTO_PEER_CLIENT=fd00::/64",
	} {
		got, err := FromEnviron(append([]string{entry}, charon...))
		if err == nil || !strings.Contains(err.Error(), name) || got.Kind != Other {
			t.Errorf("%s: %+v, %v", name, got, err)
			continue
		}
		if text := err.Error(); len(text) > 300 || strings.ContainsFunc(text, unicode.IsControl) {
			t.Errorf("%s: the error is %q", name, text)
		}
	}
}

func TestCleanNeverPassesForAnother(t *testing.T) {
	for _, text := range []string{
		"a\nb", "a\x00", "\xff\xfe\x80", "a\u202eb", "a\u00a0b", strings.Repeat("A", 1<<16), strings.Repeat("ä", 200),
		"\"; touch /tmp/x; '$(reboot)`reboot`\n-A INPUT -j ACCEPT", "\u2028",
	} {
		got := clean(text)
		if !strings.ContainsRune(got, replaced) || len(got) > maxText || !utf8.ValidString(got) || strings.ContainsFunc(got, unicode.IsControl) {
			t.Errorf("clean(%.40q) = %q", text, got)
		}
	}
	for _, text := range []string{"", "carol@strongswan.org", `C=CH, O="x", CN='a' $(b) ../c`, strings.Repeat("A", maxText-3), "Ünïcödé 漢字"} {
		if got := clean(text); got != text {
			t.Errorf("clean(%q) = %q, want it as it is", text, got)
		}
	}
}

func FuzzFromEnviron(f *testing.F) {
	f.Add(strings.Join(charon, "\x00"))
	f.Add(strings.Join(pluto, "\x00"))
	f.Add("PLUTO_VERB=down-host-v6\x00PLUTO_REQID=4294967295\x00PLUTO_MY_CLIENT=fe80::%eth0/64\x00PLUTO_PEER_CLIENT=::ffff:1.2.3.4/128")
	f.Fuzz(func(t *testing.T, text string) {
		event, err := FromEnviron(strings.Split(text, "\x00"))
		if err != nil || event.Kind == Other {
			return
		}
		encoded, err := event.Record.encode()
		if err != nil {
			t.Fatal(err)
		}
		if len(encoded) > maxSize {
			t.Fatalf("a record of %d bytes is not read again", len(encoded))
		}
		again, err := decode(encoded)
		if err != nil || !reflect.DeepEqual(again, event.Record) {
			t.Fatalf("it is read again as %+v (%v)\nwant %+v", again, err, event.Record)
		}
		if name := event.Record.name() + ending; !isRecord(name) {
			t.Fatalf("its file is %q", name)
		}
	})
}

func FuzzDecode(f *testing.F) {
	event, err := FromEnviron(charon)
	if err != nil {
		f.Fatal(err)
	}
	text, err := event.Record.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"daemon":"strongswan","local":"10.0.0.0/8","remote":"::/0"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := decode(text)
		if err != nil {
			return
		}
		again, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if other, err := decode(again); err != nil || other.name() != r.name() {
			t.Fatalf("%s is read and written, and then %v", again, err)
		}
	})
}
