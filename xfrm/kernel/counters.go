package kernel

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// RuleCounter is a rule's counter. Text is its comment from the searched
// words on, up to where it ends.
type RuleCounter struct {
	Text           string
	Packets, Bytes uint64
}

// TableCounters returns the counters of the rules with a comment that contains words,
// in chains of a table of iptables-nft, and zero for none. It asks the
// kernel for these chains alone, so it costs some 20 us for each, however many
// there are besides; a chain that is not there has no rules. For iptables-legacy
// see LegacyCounters.
func TableCounters(ctx context.Context, family xfrm.Family, table string, chains []string, words string) ([]RuleCounter, error) {
	c, err := dialTo(unix.NETLINK_NETFILTER, make([]byte, bufferSize))
	if err != nil {
		return nil, fmt.Errorf("read counters: %w", err)
	}
	defer c.close()
	defer c.until(ctx)()
	var found []RuleCounter
	for _, chain := range chains {
		req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP)
		req.AddData(&nl.Nfgenmsg{NfgenFamily: uint8(family), Version: unix.NFNETLINK_V0})
		req.AddData(nl.NewRtAttr(unix.NFTA_RULE_TABLE, nl.ZeroTerminated(table)))
		req.AddData(nl.NewRtAttr(unix.NFTA_RULE_CHAIN, nl.ZeroTerminated(chain)))
		err := c.request(req, func(_ uint16, body []byte) error {
			if counter, ok := ruleCounter(body, words); ok {
				found = append(found, counter)
			}
			return nil
		})
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return nil, fmt.Errorf("read counters of %s %s: %w", table, chain, explain(err))
		}
	}
	return found, nil
}

// ruleCounter reads a NFT_MSG_NEWRULE: its expressions are a list, in which
// iptables-nft puts the comment as the match of that name and a counter.
func ruleCounter(body []byte, words string) (found RuleCounter, ok bool) {
	text, ok := commentIn(body, words)
	if !ok || len(body) < nfgenSize {
		return found, false
	}
	found.Text = text
	for expression := range attributes(attribute(body[nfgenSize:], unix.NFTA_RULE_EXPRESSIONS)) {
		name := attribute(expression, unix.NFTA_EXPR_NAME)
		if string(bytes.TrimRight(name, "\x00")) != "counter" {
			continue
		}
		data := attribute(expression, unix.NFTA_EXPR_DATA)
		packets, octets := attribute(data, unix.NFTA_COUNTER_PACKETS), attribute(data, unix.NFTA_COUNTER_BYTES)
		if len(packets) == 8 && len(octets) == 8 {
			found.Packets, found.Bytes = binary.BigEndian.Uint64(packets), binary.BigEndian.Uint64(octets)
			return found, true
		}
	}
	return found, false
}

// commentIn returns the text that begins with words in b and ends with it, or at a zero.
func commentIn(b []byte, words string) (string, bool) {
	i := bytes.Index(b, []byte(words))
	if i < 0 {
		return "", false
	}
	text, _, _ := bytes.Cut(b[i:], []byte{0})
	return string(text), true
}

// attributes yields the values of netlink attributes, one after the other, as far
// as they are whole.
func attributes(b []byte) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(b) >= unix.NLA_HDRLEN {
			size := int(native.Uint16(b))
			if size < unix.NLA_HDRLEN || size > len(b) || !yield(b[unix.NLA_HDRLEN:size]) {
				return
			}
			b = b[min(len(b), (size+3)&^3):]
		}
	}
}

// attribute returns the value of the first attribute of a type, nil if there is
// none.
func attribute(b []byte, typ uint16) []byte {
	for len(b) >= unix.NLA_HDRLEN {
		size := int(native.Uint16(b))
		if size < unix.NLA_HDRLEN || size > len(b) {
			return nil
		}
		if native.Uint16(b[2:])&typeMask == typ {
			return b[unix.NLA_HDRLEN:size]
		}
		b = b[min(len(b), (size+3)&^3):]
	}
	return nil
}
