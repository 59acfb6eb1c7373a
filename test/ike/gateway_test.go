package ike

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// updown is the hook as a configuration of charon names it.
func updown(t *testing.T) string { return script(t, "updown") + " " + lab.HookCommand(t) }

// script is the path of a file that is shipped, as the tests' own folder is where they run.
func script(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("..", "..", "scripts", "dist", name))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// closed gives gateways a default policy of DROP, so that a rule has let in each packet
// that passes, and xfrmfw's rules, so that IKE can come in.
func closed(t *testing.T, hosts ...*lab.Host) {
	t.Helper()
	for _, h := range hosts {
		for _, f := range lab.Families {
			h.Iptables(t, f, "-P", "INPUT", "DROP")
			h.Iptables(t, f, "-P", "FORWARD", "DROP")
		}
		h.MustXfrmfw(t, "apply")
	}
}

// report is the part of status --json that the tests read.
type report struct {
	Tunnels []tunnel `json:"tunnels"`
	Drops   map[string]struct {
		Packets int `json:"packets"`
	} `json:"drops"`
	Counts struct {
		Unknown int `json:"unknown"`
	} `json:"counts"`
	Differences []string `json:"differences"`
	Warnings    []string `json:"warnings"`
}

type tunnel struct {
	ID         string   `json:"id"`
	Connection string   `json:"connection"`
	PeerID     string   `json:"peer_id"`
	User       string   `json:"user"`
	VirtualIPs []string `json:"virtual_ips"`
	State      string   `json:"state"`
	Reqid      int      `json:"reqid"`
	Remote     string   `json:"remote"`
	Evidence   string   `json:"evidence"`
	Reason     string   `json:"reason"`
	PacketsBy  struct {
		Verified    int `json:"verified"`
		PolicyOnly  int `json:"policy_only"`
		Unconfirmed int `json:"unconfirmed"`
	} `json:"packets_by"`
	SAs []struct {
		SPI string `json:"spi"`
	} `json:"sas"`
	Selectors []struct {
		Remote string `json:"remote"`
	} `json:"selectors"`
}

func status(t *testing.T, h *lab.Host) report {
	t.Helper()
	var r report
	text := h.MustXfrmfw(t, "status", "--json")
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatalf("%s: status --json: %v\n%s", h.Name, err, text)
	}
	return r
}

// up are the tunnels that can carry traffic.
func (r report) up() (list []tunnel) {
	for _, t := range r.Tunnels {
		if t.State == "up" {
			list = append(list, t)
		}
	}
	return list
}

// eventuallyPings waits until a ping is answered.
func eventuallyPings(t *testing.T, from *lab.Host, to netip.Addr, words ...string) {
	t.Helper()
	lab.Eventually(t, 6*lab.Patience, func() error {
		if p := from.Ping(t, to, 1, words...); p.Received == 0 {
			return fmt.Errorf("%s does not reach %s: %s", from.Name, to, p.Output)
		}
		return nil
	})
}

// noCleartext fails the test if a packet that matches was on the wire.
func noCleartext(t *testing.T, wire *lab.Capture, match func(lab.Frame) bool) {
	t.Helper()
	shown := 0
	for _, frame := range wire.Frames(t) {
		if match(frame) && frame.Link != "mallory0" && shown < 5 {
			t.Errorf("in clear on the wire: %v", frame)
			shown++
		}
	}
	if wire.Count(t, lab.IsESP) == 0 {
		t.Error("no ESP was on the wire")
	}
}

// count is the number in XFRMFW_SOAK_COUNT, or else few.
func count(few int) int {
	if n, err := strconv.Atoi(os.Getenv("XFRMFW_SOAK_COUNT")); err == nil {
		return n
	}
	return few
}
