package metrics

import (
	"bufio"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// xfrmStat is the kernel's own count of errors, of this network
// namespace. Not by way of /proc/net: a sandbox that hides all of /proc but the
// processes leaves this one.
const xfrmStat = "/proc/self/net/xfrm_stat"

// kernelErrors serves all counters of xfrm_stat, read at each scrape.
type kernelErrors struct {
	path string
	desc *prometheus.Desc
}

func newKernelErrors() kernelErrors {
	return kernelErrors{path: xfrmStat, desc: prometheus.NewDesc("xfrmfw_kernel_xfrm_errors_total",
		"Packets that the kernel's IPsec dropped, by its own reason (/proc/net/xfrm_stat).", []string{"error"}, nil)}
}

// Describe implements prometheus.Collector.
func (k kernelErrors) Describe(to chan<- *prometheus.Desc) { to <- k.desc }

// Collect implements prometheus.Collector. A kernel without the file
// (CONFIG_XFRM_STATISTICS) has no such series.
func (k kernelErrors) Collect(to chan<- prometheus.Metric) {
	f, err := os.Open(k.path)
	if err != nil {
		return
	}
	defer func() { _ = f.Close() }()
	for _, c := range readKernelErrors(f) {
		to <- prometheus.MustNewConstMetric(k.desc, prometheus.CounterValue, c.value, c.name)
	}
}

type kernelError struct {
	name  string
	value float64
}

// readKernelErrors reads lines of a name and a number, and leaves out a line that is
// none, or stands there twice: one bad line would else cost a scrape.
func readKernelErrors(from io.Reader) []kernelError {
	var list []kernelError
	seen := make(map[string]bool)
	lines := bufio.NewScanner(io.LimitReader(from, 64<<10))
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) != 2 || !strings.HasPrefix(words[0], "Xfrm") || labelValue(words[0]) != words[0] || seen[words[0]] {
			continue
		}
		n, err := strconv.ParseUint(words[1], 10, 64)
		if err != nil {
			continue
		}
		seen[words[0]] = true
		list = append(list, kernelError{words[0], float64(n)})
	}
	return list
}
