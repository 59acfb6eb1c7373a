package metrics

import (
	"bytes"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
)

// A page is the served text. It is made at most once a second: with a thousand
// tunnels that takes a tenth of it, and a client could keep the processor
// from the daemon by asking without end.
type page struct {
	from prometheus.Gatherer
	now  func() time.Time

	mu   sync.Mutex
	at   time.Time
	text []byte
	err  error
}

// pageAge is how long a page serves all clients.
const pageAge = time.Second

// format is the only one: every Prometheus reads it.
var format = expfmt.NewFormat(expfmt.TypeTextPlain)

// ServeHTTP implements http.Handler.
func (p *page) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	text, err := p.read()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", string(format))
	_, _ = w.Write(text)
}

// read returns the page. The text is not changed later on.
func (p *page) read() ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.at.IsZero() && p.now().Sub(p.at) < pageAge {
		return p.text, p.err
	}
	p.text, p.err = p.make()
	p.at = p.now()
	return p.text, p.err
}

func (p *page) make() ([]byte, error) {
	families, err := p.from.Gather()
	if len(families) == 0 {
		return nil, err
	}
	// A metric that can't be had is no reason to hide the others.
	var text bytes.Buffer
	to := expfmt.NewEncoder(&text, format)
	for _, f := range families {
		if err := to.Encode(f); err != nil {
			return nil, err
		}
	}
	return text.Bytes(), nil
}
