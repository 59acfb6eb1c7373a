package status

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/text"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// documented is the shape of "status --json" as xfrmfw-json(5) has it, written down
// once more: a key that is renamed or lost fails here.
type documented struct {
	Schema  int     `json:"schema"`
	Time    string  `json:"time"`
	Engine  string  `json:"engine"`
	Variant *string `json:"variant"`
	Marks   struct {
		Tag      uint32 `json:"tag"`
		Verified uint32 `json:"verified"`
	} `json:"marks"`
	Daemon struct {
		Running       bool   `json:"running"`
		LastReconcile string `json:"last_reconcile"`
		ReconciledBy  string `json:"reconciled_by"`
		LastError     string `json:"last_error"`
	} `json:"daemon"`
	Tunnels []struct {
		ID         string   `json:"id"`
		Name       string   `json:"name"`
		Connection string   `json:"connection"`
		PeerID     string   `json:"peer_id"`
		User       string   `json:"user"`
		VirtualIPs []string `json:"virtual_ips"`
		State      string   `json:"state"`
		Reqid      uint32   `json:"reqid"`
		Mode       string   `json:"mode"`
		Local      string   `json:"local"`
		Remote     string   `json:"remote"`
		IfID       uint32   `json:"if_id"`
		Mark       string   `json:"mark"`
		Selectors  []struct {
			Local      string `json:"local"`
			Remote     string `json:"remote"`
			Proto      string `json:"proto"`
			LocalPort  string `json:"local_port"`
			RemotePort string `json:"remote_port"`
		} `json:"selectors"`
		Evidence  string `json:"evidence"`
		Reason    string `json:"reason"`
		PacketsBy struct {
			Verified    uint64 `json:"verified"`
			PolicyOnly  uint64 `json:"policy_only"`
			Unconfirmed uint64 `json:"unconfirmed"`
			Overlay     uint64 `json:"overlay"`
		} `json:"packets_by"`
		SAs []struct {
			SPI        string   `json:"spi"`
			Dir        string   `json:"dir"`
			Proto      string   `json:"proto"`
			Encap      string   `json:"encap"`
			Bytes      uint64   `json:"bytes"`
			Packets    uint64   `json:"packets"`
			AgeSeconds int64    `json:"age_seconds"`
			Evidence   string   `json:"evidence"`
			Reason     string   `json:"reason"`
			Rules      []string `json:"rules"`
		} `json:"sas"`
		Rules []documentedRule `json:"rules"`
	} `json:"tunnels"`
	SharedRules []documentedRule `json:"shared_rules"`
	Guards      []struct {
		Local   string `json:"local"`
		Remote  string `json:"remote"`
		Source  string `json:"source"`
		Since   string `json:"since"`
		Expires string `json:"expires"`
	} `json:"guards"`
	Lines []struct {
		Network   string `json:"network"`
		Interface string `json:"interface"`
		Expires   string `json:"expires"`
	} `json:"lines"`
	Ignored []struct {
		Object string `json:"object"`
		Reason string `json:"reason"`
	} `json:"ignored"`
	Drops struct {
		Spoof       documentedCounter `json:"spoof"`
		Inject      documentedCounter `json:"inject"`
		Crossed     documentedCounter `json:"crossed"`
		Leak        documentedCounter `json:"leak"`
		Restricted  documentedCounter `json:"restricted"`
		Lockdown    documentedCounter `json:"lockdown"`
		Unconfirmed documentedCounter `json:"unconfirmed"`
	} `json:"drops"`
	Counts struct {
		StrayTag uint64 `json:"stray_tag"`
		Unknown  uint64 `json:"unknown"`
	} `json:"counts"`
	InSync      *bool    `json:"in_sync"`
	Pending     bool     `json:"pending"`
	Differences []string `json:"differences"`
	Warnings    []string `json:"warnings"`
}

type documentedRule struct {
	ID      string `json:"id"`
	Family  string `json:"family"`
	Table   string `json:"table"`
	Chain   string `json:"chain"`
	Purpose string `json:"purpose"`
	Rule    string `json:"rule"`
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

type documentedCounter struct {
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

func TestDocumentedShape(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]Report{"full": Build(small(t)), "empty": Build(Input{})} {
		text := jsonOf(t, r)
		d := json.NewDecoder(strings.NewReader(text))
		d.DisallowUnknownFields()
		var got documented
		if err := d.Decode(&got); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		// Encoded again, a key that the report lacks would appear.
		again, err := json.MarshalIndent(got, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(again)+"\n", text); diff != "" {
			t.Errorf("%s (-documented +got):\n%s", name, diff)
		}
		if n := strings.Count(text, "null"); name == "full" && n != 0 || name == "empty" && n != 2 {
			t.Errorf("%s: null occurs %d times:\n%s", name, n, text)
		}
	}
}

// Names that peers chose must not act on a terminal, nor pass for words of ours.
func TestHostile(t *testing.T) {
	t.Parallel()
	hostile := "\x1b[2J\x1b]0;owned\x07 \u202egnp.exe\u2066 \u009b31m\r\nwarnings\n  all  is   well\x00\xff\xfe\u200b\U000e0041 \"q\" \\x1b e\u0301\u0301\u0301 \U0001f4a9" +
		strings.Repeat("wide\u4e16\u754c", 400) + "\x7f"
	in := small(t)
	for id := range in.Peers {
		in.Peers[id] = Peer{Connection: hostile, PeerID: hostile, User: hostile, VirtualIPs: []string{hostile}}
	}
	for i := range in.Result.Tunnels {
		in.Result.Tunnels[i].Name = hostile
		in.Result.Tunnels[i].Reason = hostile
	}
	in.Differences = []string{hostile}
	in.Warnings = []string{hostile}
	in.Set.Ignored = []xfrm.Ignored{{Object: hostile, Reason: hostile}}
	in.Daemon.LastError = hostile
	save := in.Live[xfrm.IPv4]
	save.Tables = append(save.Tables, live.Table{Name: "raw", Chains: []live.Chain{{
		Name: "XFRMFW-" + strings.Repeat("\x1b", 40), Rules: []live.Rule{{Raw: hostile}},
	}}})
	in.Live[xfrm.IPv4] = save
	r := Build(in)

	printed := jsonOf(t, r)
	for what, form := range map[string]string{"text": textOf(t, r, TextOptions{}), "verbose text": textOf(t, r, TextOptions{Verbose: true}), "JSON": printed} {
		if !utf8.ValidString(form) {
			t.Errorf("%s: not UTF-8", what)
		}
		for _, c := range form {
			if c != '\n' && text.Unseen(c) {
				t.Errorf("%s holds %U", what, c)
			}
		}
		if what != "JSON" {
			checkWidth(t, form)
			if strings.Count(form, "\nwarnings\n") != 1 {
				t.Errorf("%s: a peer could write a heading", what)
			}
		}
	}
	var got documented
	if err := json.Unmarshal([]byte(printed), &got); err != nil {
		t.Fatal(err)
	}
	want := strings.ToValidUTF8(strings.ReplaceAll(hostile, "\xff\xfe", "\ufffd\ufffd"), "?")
	if diff := cmp.Diff(want, got.Tunnels[0].Name); diff != "" {
		t.Errorf("a name that is not what it was (-want +got):\n%s", diff)
	}
	if _, err := r.Select([]string{hostile + "2"}); err == nil || strings.ContainsFunc(err.Error(), text.Unseen) {
		t.Errorf("an unknown name: %v", err)
	}
}

func jsonOf(t testing.TB, r Report) string {
	t.Helper()
	var b bytes.Buffer
	if err := r.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func textOf(t testing.TB, r Report, o TextOptions) string {
	t.Helper()
	var b bytes.Buffer
	if err := r.WriteText(&b, o); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
