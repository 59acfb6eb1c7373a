package ike

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// TestHostileEnvironment calls the hook with all that a peer might call itself, on a host with its tunnel: the rules are
// those of any peer, nothing is executed and no file has a name of the peer's; status prints it escaped.
func TestHostileEnvironment(t *testing.T) {
	lab.RunIn(t, lab.Soak)
	n := lab.NewNetwork(t)
	sun, hook := n.Sun, strings.Fields(lab.HookCommand(t))
	n.Up(t, lab.IPsec{})
	sun.MustXfrmfw(t, "apply")
	want := sun.Save(t, lab.IPv4) + sun.Save(t, lab.IPv6)
	touched := filepath.Join(sun.RunDir(), "touched")
	words := []string{
		`"; touch ` + touched + `; '$(touch ` + touched + ")`touch " + touched + "` && touch " + touched + " | touch " + touched,
		"a\n-A INPUT -j ACCEPT\nCOMMIT\n", "../../../" + touched, "--help", "\xff\xfe\x80", "\x1b[2J\u202egnp.exe\t%s%n{{.}}\\x41",
		strings.Repeat("A", 1<<16), strings.Repeat("\"'`", 1<<16/3),
	}
	for i, word := range words {
		env := environment("up-client", 11, "10.1.0.0/24", word, "PLUTO_CONNECTION="+word, "PLUTO_XAUTH_ID="+word,
			"PLUTO_PEER_SOURCEIP4_1="+word, "PLUTO_INTERFACE="+word, "PLUTO_UDP_ENC="+word, "PLUTO_MY_ID="+word, "PLUTO_PEER_CA="+word,
			"IFS=/", "ENV="+touched, "BASH_ENV="+touched, "LD_PRELOAD=", "PATH=/nonexistent")
		if r := sun.Call(t, env, "", script(t, "updown"), hook...); r != (lab.Result{}) {
			t.Errorf("%.40q: %+v", word, r)
		}
		text := sun.MustXfrmfw(t, "status", "--all", "--verbose")
		for _, r := range text {
			if r != '\n' && (r < ' ' || r == 0x7f || r == 0x202e) {
				t.Errorf("%.40q: status prints %q", word, r)
				break
			}
		}
		// Two peers on one tunnel are not told apart: only the first is shown.
		env[slices.Index(env, "PLUTO_VERB=up-client")] = "PLUTO_VERB=down-client"
		if got := status(t, sun).up(); i == 0 && (len(got) != 1 || !strings.HasPrefix(got[0].PeerID, word[:40])) {
			t.Errorf("%.40q: status shows %+v", word, got)
		}
		if r := sun.Call(t, env, "", script(t, "updown"), hook...); r != (lab.Result{}) {
			t.Errorf("%.40q, down: %+v", word, r)
		}
	}
	for name, entry := range map[string]string{"reqid": "PLUTO_REQID=11\n-A INPUT -j ACCEPT", "selector": "PLUTO_PEER_CLIENT=0.0.0.0/0 -j ACCEPT", "verb": "PLUTO_VERB=up-client; reboot"} {
		if r := sun.Call(t, append(environment("up-client", 11, "10.1.0.0/24", "x"), entry), "", script(t, "updown"), hook...); r != (lab.Result{}) {
			t.Errorf("%s: %+v", name, r)
		}
	}
	lab.InSync(t, sun)
	if got := sun.Save(t, lab.IPv4) + sun.Save(t, lab.IPv6); got != want {
		t.Errorf("the rules changed:\n%s\nwere\n%s", got, want)
	}
	if _, err := os.Stat(touched); err == nil {
		t.Error("a word of the environment was executed")
	}
	err := filepath.WalkDir(sun.RunDir(), func(path string, d os.DirEntry, err error) error {
		name := d.Name()
		if path != sun.RunDir() && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-.") != "" {
			t.Errorf("a file is called %q", name)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	// The last of them went down: nobody is known.
	if got := status(t, sun).up(); len(got) != 1 || got[0].PeerID != "" && got[0].PeerID != "x" {
		t.Errorf("status shows %+v", got)
	}
}
