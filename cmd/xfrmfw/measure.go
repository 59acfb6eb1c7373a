package main

import (
	"context"
	"runtime/debug"
	"strings"
	"sync/atomic"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/config"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/gateway"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/metrics"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/status/gather"
)

// measure is what the daemon serves to a monitoring system.
type measure struct {
	recorder *metrics.Recorder
	tunnels  *metrics.Tunnels
	// gateway is that of scrapes: the daemon's is not for two at the same time.
	gateway atomic.Pointer[gateway.Gateway]

	address string
	stop    context.CancelFunc
	done    chan struct{}
}

// newMeasure returns what counts from now on; nothing is served yet.
func newMeasure(o *options) *measure {
	m := &measure{recorder: metrics.NewRecorder(), stop: func() {}, done: make(chan struct{})}
	close(m.done)
	m.tunnels = metrics.NewTunnels(func(ctx context.Context) (metrics.State, error) {
		g := m.gateway.Load()
		r, err := gather.Report(ctx, g, daemonState(o), true)
		if err != nil {
			return metrics.State{}, err
		}
		s := metrics.State{Report: r}
		for _, t := range g.Config().Firewall.Tunnels {
			s.Names = append(s.Names, t.Name)
		}
		return s, nil
	}, config.DefaultDaemon().MaxTunnels)
	return m
}

// follow brings what is served in line with the settings. That it can't be
// served is no reason not to guard: it is logged.
func (m *measure) follow(ctx context.Context, settings config.Daemon, log logger) {
	m.tunnels.Limit(settings.MaxTunnels)
	if settings.Listen == m.address {
		return
	}
	m.end()
	if settings.Listen == "" {
		return
	}
	l, err := metrics.Listen(settings.Listen)
	if err != nil {
		log.fail("%v; metrics are not served: mend it and have the configuration read again", err)
		return
	}
	ctx, m.stop = context.WithCancel(ctx)
	m.address, m.done = settings.Listen, make(chan struct{})
	go func(done chan<- struct{}) {
		defer close(done)
		if err := metrics.Serve(ctx, l, buildVersion(), m.recorder, m.tunnels); err != nil {
			log.fail("serve metrics: %v", err)
		}
	}(m.done)
	log.info("metrics are served on %s", settings.Listen)
}

// end stops serving.
func (m *measure) end() {
	m.stop()
	<-m.done
	m.address = ""
}

// buildVersion is the version that was linked in, or that of the module.
func buildVersion() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	return strings.Trim(info.Main.Version, "()")
}
