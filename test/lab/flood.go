package lab

import (
	"sync"
	"testing"
	"time"
)

// Flood puts a packet on the wire every few milliseconds, until the test ends or the returned function is called. That
// there is no way for it yet, as an interface is down, is no failure.
func (h *Host) Flood(t testing.TB, packet Packet, pause time.Duration) (stop func()) {
	t.Helper()
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		err := h.Do(func() error {
			for {
				select {
				case <-end:
					return nil
				case <-time.After(pause):
					_ = packet.Send()
				}
			}
		})
		if err != nil {
			t.Errorf("%s: flood: %v", h.Name, err)
		}
	}()
	stop = sync.OnceFunc(func() {
		close(end)
		<-ended
	})
	t.Cleanup(stop)
	return stop
}
