package live

import (
	"strconv"
	"strings"

	"github.com/xfrmfw/xfrmfw/firewall/rules"
)

// ReadWords finds the target and our comment in r.Raw. It reports false if a
// quote is left open at its end.
func (r *Rule) ReadWords() bool {
	s := r.Raw
	option := ""
	for s != "" {
		if s[0] == ' ' {
			s = s[1:]
			continue
		}
		n, ok := wordLen(s)
		if !ok {
			return false
		}
		word := s[:n]
		s = s[n:]
		switch option {
		case "-j", "-g":
			r.Target = word
		case "--comment":
			if r.ID == "" {
				r.ID, r.Purpose, r.Tunnel, _ = rules.ParseComment(strings.Trim(word, `"`))
			}
		}
		// The value of an option is no option itself: a comment may be "-j",
		// and is printed without quotes.
		if word[0] != '-' || takesText(option) {
			option = ""
		} else {
			option = word
		}
	}
	return true
}

// wordLen is the length of the word that s begins with, quotes included.
func wordLen(s string) (int, bool) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '"':
			quoted = !quoted
		case '\\':
			if quoted {
				i++
			}
		case ' ':
			if !quoted {
				return i, true
			}
		}
	}
	return len(s), !quoted
}

// takesText reports whether the option's value is free text, which may look
// like an option.
func takesText(option string) bool {
	switch option {
	case "--comment", "--log-prefix", "--nflog-prefix", "--ulog-prefix", "--string", "--hex-string",
		"--name", "--hashlimit-name", "--match-set", "--helper", "--label", "--id", "--selctx",
		"-j", "-g":
		return true
	}
	return false
}

// Append appends the save as iptables-save prints it, but for the remarks with
// program and time.
func (s Tables) Append(b []byte) []byte {
	for _, name := range s.Unreadable {
		b = append(append(append(b, "# Table `"...), name...), "' is incompatible, use 'nft' tool.\n"...)
	}
	for _, t := range s.Tables {
		b = append(append(append(b, '*'), t.Name...), '\n')
		for _, c := range t.Chains {
			b = append(append(b, ':'), c.Name...)
			b = append(append(append(b, ' '), c.Policy...), ' ')
			b = append(AppendCounters(b, c.Packets, c.Bytes), '\n')
		}
		for _, c := range t.Chains {
			for _, r := range c.Rules {
				b = append(AppendCounters(b, r.Packets, r.Bytes), ' ')
				b = append(AppendAdd(b, c.Name, r.Raw), '\n')
			}
		}
		b = append(b, "COMMIT\n"...)
	}
	return b
}

func AppendCounters(b []byte, packets, bytes uint64) []byte {
	b = strconv.AppendUint(append(b, '['), packets, 10)
	b = strconv.AppendUint(append(b, ':'), bytes, 10)
	return append(b, ']')
}

// AppendAdd appends "-A CHAIN RULE".
func AppendAdd(b []byte, chain, rule string) []byte {
	b = append(append(b, "-A "...), chain...)
	if rule != "" {
		b = append(append(b, ' '), rule...)
	}
	return b
}
