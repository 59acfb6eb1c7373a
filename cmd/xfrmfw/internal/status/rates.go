package status

import "time"

// Rates are the counts between two reports, a second. They need counters
// of the same rules and states; new ones count from 0.
type Rates struct {
	// Tunnels has an entry for each tunnel of the later report, in its order.
	Tunnels []TunnelRates
	// Drops and Counts have the packets a second of the report's sums.
	Drops  map[string]float64
	Counts map[string]float64
}

// TunnelRates are those of one tunnel. Packets are those that the rules took for
// the tunnel's; the bytes are those of its states, which restart with a rekey.
type TunnelRates struct {
	Packets, InBytes, OutBytes float64
}

// Between returns the rates from an earlier report to a later one. Counters that
// went back, since a chain was rewritten, count as nothing rather than wrongly.
func Between(earlier, later Report, elapsed time.Duration) Rates {
	seconds := elapsed.Seconds()
	if seconds <= 0 {
		return Rates{Tunnels: make([]TunnelRates, len(later.Tunnels))}
	}
	per := func(before, after uint64) float64 {
		if after < before {
			return 0
		}
		return float64(after-before) / seconds
	}
	packets := make(map[string]uint64, len(earlier.Tunnels))
	bytes := make(map[stateKey]uint64)
	for _, t := range earlier.Tunnels {
		packets[t.ID] = t.PacketsBy.Total()
		for _, sa := range t.SAs {
			bytes[stateKey{t.ID, sa.Dir, sa.SPI}] = sa.Bytes
		}
	}
	r := Rates{
		Tunnels: make([]TunnelRates, len(later.Tunnels)), Drops: make(map[string]float64), Counts: make(map[string]float64),
	}
	for i, t := range later.Tunnels {
		of := &r.Tunnels[i]
		before, known := packets[t.ID]
		if !known {
			before = t.PacketsBy.Total()
		}
		of.Packets = per(before, t.PacketsBy.Total())
		for _, sa := range t.SAs {
			rate := per(bytes[stateKey{t.ID, sa.Dir, sa.SPI}], sa.Bytes)
			if !known {
				rate = 0
			}
			if sa.Dir == "in" {
				of.InBytes += rate
			} else {
				of.OutBytes += rate
			}
		}
	}
	before := earlier.Drops.named()
	for i, d := range later.Drops.named() {
		r.Drops[d.name] = per(before[i].Packets, d.Packets)
	}
	r.Counts["stray"] = per(earlier.Counts.StrayTag, later.Counts.StrayTag)
	r.Counts["unknown"] = per(earlier.Counts.Unknown, later.Counts.Unknown)
	return r
}

type stateKey struct{ tunnel, dir, spi string }

// namedCounter is a counter with the name of its case.
type namedCounter struct {
	name string
	Counter
}

// named lists the drops in the order in which they are shown.
func (d Drops) named() []namedCounter {
	return []namedCounter{
		{"spoof", d.Spoof}, {"inject", d.Inject}, {"crossed", d.Crossed}, {"leak", d.Leak},
		{"restricted", d.Restricted}, {"lockdown", d.Lockdown}, {"unconfirmed", d.Unconfirmed},
	}
}

// packets is the number of all dropped packets.
func (d Drops) packets() uint64 {
	var n uint64
	for _, c := range d.named() {
		n += c.Packets
	}
	return n
}
