package gather

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/xfrmfw/xfrmfw/firewall/foreign"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
	"github.com/xfrmfw/xfrmfw/firewall/sets/program"
	"github.com/xfrmfw/xfrmfw/firewall/sets/purpose"
)

// ErrNoNFT says that the nft program is not there.
var ErrNoNFT = errors.New("there is no nft program: install nftables to have the tables of other firewalls looked at")

// nftLimit is when nft is killed.
const nftLimit = time.Minute

// OfIP are the families of tables that packets meet at the hooks of IP.
func OfIP() []string { return []string{"ip", "ip6", "inet"} }

// Tables lists the tables of nftables of some families with a base chain, without table inet
// xfrmfw and without those whose rules iptables-save prints. Tables are read one by one, because
// those are large with many tunnels.
func Tables(ctx context.Context, families []string, saved func(foreign.Table) bool) (foreign.Ruleset, error) {
	path := ""
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin", "/run/current-system/sw/bin"} {
		if p, err := exec.LookPath(dir + "/nft"); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		return foreign.Ruleset{}, ErrNoNFT
	}
	ctx, cancel := context.WithTimeout(ctx, nftLimit)
	defer cancel()
	chains, err := list(ctx, path, "chains")
	if err != nil {
		return foreign.Ruleset{}, err
	}
	var all foreign.Ruleset
	for _, t := range chains.Tables {
		if saved(t) || t.Family == "inet" && t.Name == program.Name || !slices.Contains(families, t.Family) {
			continue
		}
		base := false
		for _, c := range t.Chains {
			base = base || c.Base()
		}
		if !base {
			continue
		}
		one, err := list(ctx, path, "table", t.Family, t.Name)
		if err != nil {
			return foreign.Ruleset{}, err
		}
		all.Tables = append(all.Tables, one.Tables...)
	}
	return all, nil
}

func list(ctx context.Context, path string, what ...string) (foreign.Ruleset, error) {
	cmd := exec.CommandContext(ctx, path, append([]string{"-j", "list"}, what...)...)
	cmd.Env = []string{"LC_ALL=C"}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return foreign.Ruleset{}, fmt.Errorf("nft list %s: %w: %s", strings.Join(what, " "), err, strings.TrimSpace(stderr.String()))
	}
	return foreign.Parse(out)
}

// tableDrops counts the packets that our table of nftables has dropped, by purpose: nil
// without a table. A reject is a leak's, because no other drop tells the sender there.
func tableDrops(t sets.Table) map[rules.Purpose]uint64 {
	if t.Name == "" {
		return nil
	}
	all := make(map[rules.Purpose]uint64)
	for _, c := range t.Chains {
		p, ok := purpose.OfChain(c.Name)
		if p == rules.PurposeReject {
			p = rules.PurposeLeak
		}
		for i := range c.Rules {
			if ok {
				all[p] += c.Rules[i].Count.Packets
			}
		}
	}
	return all
}
