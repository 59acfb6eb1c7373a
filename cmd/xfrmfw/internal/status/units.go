package status

import (
	"fmt"
	"strconv"
	"time"
)

// size shows bytes in at most 9 columns.
func size(n uint64) string {
	if n < 1024 {
		return strconv.FormatUint(n, 10) + " B"
	}
	value := float64(n)
	for _, unit := range [...]string{"KiB", "MiB", "GiB", "TiB", "PiB"} {
		if value /= 1024; value < 999.95 {
			return fmt.Sprintf("%.1f %s", value, unit)
		}
	}
	return fmt.Sprintf("%.1f EiB", value/1024)
}

// count shows a number of packets in at most 8 columns.
func count(n uint64) string {
	if n < 100_000_000 {
		return strconv.FormatUint(n, 10)
	}
	value := float64(n) / 1e3
	for _, unit := range [...]string{"M", "G", "T", "P"} {
		if value /= 1e3; value < 99_999.95 {
			return fmt.Sprintf("%.1f%s", value, unit)
		}
	}
	return fmt.Sprintf("%.1fE", value/1e3)
}

// duration shows seconds by their two largest units, in at most 7 columns up to
// 27 years.
func duration(seconds int64) string {
	d := time.Duration(max(seconds, 0)) * time.Second
	days, hours, minutes := int64(d/(24*time.Hour)), int64(d/time.Hour)%24, int64(d/time.Minute)%60
	switch {
	case days > 0:
		return fmt.Sprintf("%dd%dh", days, hours)
	case hours > 0:
		return fmt.Sprintf("%dh%dm", hours, minutes)
	case minutes > 0:
		return fmt.Sprintf("%dm%ds", minutes, int64(d/time.Second)%60)
	}
	return fmt.Sprintf("%ds", int64(d/time.Second))
}
