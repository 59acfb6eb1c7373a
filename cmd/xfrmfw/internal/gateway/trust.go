package gateway

import (
	"context"
	"fmt"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/approved"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/config"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/pending"
)

// Trust says which configuration counts while the file holds one that was put in force
// with apply --confirm and not confirmed, or was rolled back.
type Trust int

// The kinds of trust.
const (
	// TrustConfirmed is for work without a user, by daemon, hook and boot: the
	// configuration that was in force before counts, until the file is changed.
	TrustConfirmed Trust = iota
	// TrustInForce is for reports: the file's while it waits for its confirmation.
	TrustInForce
	// TrustFile is for the user's own apply: the file's.
	TrustFile
)

// configText returns the text of the configuration that counts, and whether the file's own is
// refused.
func (o Options) configText() (text approved.Text, refused bool, err error) {
	data, absent, err := config.Read(o.Config, o.Explicit)
	if err != nil {
		return text, false, err
	}
	text = approved.Text{Absent: absent, Text: string(data)}
	if o.Snapshot == "" && (o.Trust == TrustConfirmed || o.Trust == TrustInForce && !pending.Look(o.Dirs).Pending) {
		// A state directory that can't be read holds no configuration back: its error is met,
		// and told, where the memory is read.
		before, held, _ := approved.In(o.State).Held(o.Config, text)
		if refused = held; held {
			text = approved.Text{Absent: true}
			if before != nil {
				text = *before
			}
		}
	}
	return text, refused, nil
}

// Outdated reports whether another configuration counts than the one that was read. A
// process that reads it before the lock asks once it has the lock, because the command that held
// the lock may have put a newer one in force.
func (g *Gateway) Outdated() bool {
	text, refused, err := g.options.configText()
	return err != nil || text != g.text || refused != g.refused
}

// Current returns the gateway, or one that is opened anew if it is outdated.
func (g *Gateway) Current(ctx context.Context) (*Gateway, error) {
	if !g.Outdated() {
		return g, nil
	}
	return Open(ctx, g.options)
}

// loadConfig reads the configuration that counts.
func (g *Gateway) loadConfig() (err error) {
	o := g.options
	if g.text, g.refused, err = o.configText(); err != nil {
		return err
	}
	if g.text.Absent {
		g.config = config.Default()
		return nil
	}
	g.config, err = config.Parse([]byte(g.text.Text), o.Config)
	return err
}

// Notices tell of a configuration that is not confirmed, for users.
func (g *Gateway) Notices() []string {
	if g.FromSnapshot() || g.options.Trust == TrustFile {
		return nil
	}
	var notices []string
	if s := pending.Look(g.options.Dirs); s.Pending {
		notices = append(notices, s.String())
	}
	if g.refused {
		notices = append(notices, fmt.Sprintf(
			"the configuration %s was not confirmed (apply --confirm): the one before it is in force until the file is changed, or applied by hand with xfrmfw apply",
			g.options.Config))
	}
	return notices
}

// Hold notes that the configuration is put in force until it is confirmed. The caller
// holds the lock.
func (g *Gateway) Hold() error { return approved.In(g.options.State).Hold(g.options.Config, g.text) }

// Approve notes that the configuration is in force. The caller holds the lock.
func (g *Gateway) Approve() error {
	if g.refused {
		return nil
	}
	return approved.In(g.options.State).Approve(g.options.Config, g.text)
}
