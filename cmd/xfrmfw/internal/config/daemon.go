package config

import (
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/listen"
)

// Daemon is how xfrmfw daemon works. No other command looks at it.
type Daemon struct {
	// Audit is the time between two comparisons of the live rules with the wanted ones. A
	// change of which no notification tells lasts no longer.
	Audit time.Duration
	// Resync is how often the kernel is read again though no event came.
	Resync time.Duration
	// Listen is where metrics are served, in the form of listen.Parse; empty
	// for nowhere.
	Listen string
	// MaxTunnels bounds the tunnels that have metrics of their own; the others
	// are summed up.
	MaxTunnels int
}

// DefaultDaemon holds where the file is silent.
func DefaultDaemon() Daemon {
	return Daemon{Audit: 10 * time.Second, Resync: time.Minute, MaxTunnels: 1000}
}

// mostTunnels is where a monitoring system, not this program, gives up.
const mostTunnels = 100_000

func (p *parser) daemon(node ast.Node) {
	d := &p.service
	p.walk(node, "daemon", words{
		"audit":           func(n ast.Node) { d.Audit = p.interval(n, "audit") },
		"resync":          func(n ast.Node) { d.Resync = p.interval(n, "resync") },
		"metrics":         func(n ast.Node) { d.Listen = p.listen(n, "metrics") },
		"metrics_tunnels": func(n ast.Node) { d.MaxTunnels = p.upTo(n, "metrics_tunnels", mostTunnels) },
	})
}

// interval reads a time between two of something that costs.
func (p *parser) interval(node ast.Node, key string) time.Duration {
	const least, most = time.Second, time.Hour
	text, ok := p.scalar(node, key)
	if !ok {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < least || d > most {
		p.fail(place(node), "%s is %s: write a time from 1s to 1h, such as 10s", key, quote(text))
		return 0
	}
	return d
}

// listen reads where something is served, or off.
func (p *parser) listen(node ast.Node, key string) string {
	text, ok := p.scalar(node, key)
	if !ok || text == "off" {
		return ""
	}
	at, err := listen.Parse(text)
	if err != nil {
		p.fail(place(node), "%s is %s: %v", key, quote(text), err)
		return ""
	}
	return at.String()
}

// upTo reads a number with an upper bound.
func (p *parser) upTo(node ast.Node, key string, most uint32) int {
	n, ok := p.number(node, key, "1000")
	if ok && n > most {
		p.fail(place(node), "%s is %d: write at most %d", key, n, most)
		return 0
	}
	return int(n)
}
