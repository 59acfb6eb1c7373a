package metrics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sys/unix"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/listen"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/rundir"
)

const (
	// maxConnections bounds the descriptors that others can hold of the daemon,
	// which needs some for its own work.
	maxConnections = 16
	maxHeader      = 8 << 10
	// headerTime is how long a client may take to send a request's header.
	headerTime = 5 * time.Second
)

// Listen opens the address (see listen.Parse). A Unix socket may be used by the
// owner and group of the daemon; one that a former daemon left is replaced.
func Listen(address string) (net.Listener, error) {
	at, err := listen.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("listen for metrics on %q: %w", address, err)
	}
	if at.Network == "unix" {
		return listenUnix(at.Path)
	}
	l, err := net.Listen(at.Network, at.Path)
	if err != nil {
		return nil, fmt.Errorf("listen for metrics: %w", err)
	}
	return l, nil
}

// listenUnix makes the socket beside its place and moves it there, so that
// nobody can connect before its mode is set. The folder may be another user's, so it is
// held by its descriptor, and the mode is that of the socket which was made.
func listenUnix(path string) (net.Listener, error) {
	l, err := listenIn(filepath.Dir(path), filepath.Base(path))
	if err != nil {
		return nil, fmt.Errorf("listen for metrics: %w", err)
	}
	return l, nil
}

func listenIn(folder, name string) (net.Listener, error) {
	d, err := rundir.Open(folder)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	if st, err := d.Stat(name); err == nil && st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return nil, fmt.Errorf("%s exists and is not a socket: remove it, or name another path", d.Path(name))
	}
	beside := fmt.Sprintf("%s.%d", name, os.Getpid())
	_ = d.RemoveIfAny(beside)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: d.Handle(beside), Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	if err = shareSocket(d, beside); err == nil {
		err = d.Rename(beside, name)
	}
	if err != nil {
		_, _ = l.Close(), d.RemoveIfAny(beside)
		return nil, err
	}
	return l, nil
}

// shareSocket lets the group connect to a socket that this process made.
func shareSocket(d *rundir.Dir, name string) error {
	f, err := d.Socket(name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	if int(st.Uid) != os.Geteuid() || st.Nlink != 1 {
		return fmt.Errorf("%s was replaced by another user's: name another path", d.Path(name))
	}
	return os.Chmod(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), 0o660)
}

// Serve answers GET /metrics on the listener until ctx is done, and then closes
// it and returns nil.
func Serve(ctx context.Context, l net.Listener, version string, r *Recorder, t *Tunnels) error {
	return serveClients(ctx, l, headerTime, version, r, t)
}

// serveClients is Serve with another time for a request's header; its body may take as long
// again.
func serveClients(ctx context.Context, l net.Listener, header time.Duration, version string, r *Recorder, t *Tunnels) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	handler, err := handler(version, r, t)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: header,
		ReadTimeout:       2 * header,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    maxHeader,
		// A client's data is no reason to write to the log.
		ErrorLog: log.New(io.Discard, "", 0),
	}
	bind(server)
	running := make(chan struct{})
	go func() {
		defer close(running)
		t.Run(ctx)
	}()
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	err = server.Serve(newBounded(l, maxConnections))
	cancel()
	<-running
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve metrics: %w", err)
}

// handler serves everything under one path.
func handler(version string, r *Recorder, t *Tunnels) (http.Handler, error) {
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "xfrmfw_build_info", Help: "Always 1; tells the version.",
		ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()},
	})
	build.Set(1)
	registry := prometheus.NewRegistry()
	for _, c := range []prometheus.Collector{
		build, r, t, newKernelErrors(), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		if err := registry.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", &page{from: registry, now: t.now})
	return mux, nil
}
