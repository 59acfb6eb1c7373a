package daemon

import (
	"context"
	"sync/atomic"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/config"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/gateway"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/metrics"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/status/gather"
)

// metricsServer serves the daemon's metrics to a monitoring system.
type metricsServer struct {
	version  string
	recorder *metrics.Recorder
	tunnels  *metrics.Tunnels
	// gateway is that of scrapes: the daemon's is not for two at the same time.
	gateway atomic.Pointer[gateway.Gateway]

	address string
	stop    context.CancelFunc
	done    chan struct{}
}

// newMetricsServer returns a server that counts from now on, and serves nothing yet.
func newMetricsServer(o Options) *metricsServer {
	m := &metricsServer{version: o.Version, recorder: metrics.NewRecorder(), stop: func() {}, done: make(chan struct{})}
	close(m.done)
	m.tunnels = metrics.NewTunnels(func(ctx context.Context) (metrics.State, error) {
		g := m.gateway.Load()
		r, err := gather.Report(ctx, g, gather.Daemon(o.Gateway.Dirs), true)
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

// configure brings the server in line with the settings. An address that can't be served
// is logged; the rules are kept all the same.
func (m *metricsServer) configure(ctx context.Context, settings config.Daemon, log logger) {
	m.tunnels.Limit(settings.MaxTunnels)
	if settings.Listen == m.address {
		return
	}
	m.close()
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
		if err := metrics.Serve(ctx, l, m.version, m.recorder, m.tunnels); err != nil {
			log.fail("serve metrics: %v", err)
		}
	}(m.done)
	log.info("metrics are served on %s", settings.Listen)
}

// close ends the server.
func (m *metricsServer) close() {
	m.stop()
	<-m.done
	m.address = ""
}
