package firewall

// Ports is an inclusive range of ports; the zero value is any port.
type Ports struct{ Lo, Hi uint16 }

// Port is the range of a single port.
func Port(p uint16) Ports { return Ports{p, p} }
