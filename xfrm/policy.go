package xfrm

import "net/netip"

// Policy is one policy of the kernel (struct xfrm_userpolicy_info and its
// attributes).
type Policy struct {
	Selector Selector   `json:"selector"`
	Dir      Dir        `json:"dir"`
	Type     PolicyType `json:"type,omitzero"`
	Action   Action     `json:"action"`
	// Priority orders policies: the lower number wins.
	Priority uint32 `json:"priority"`
	Index    uint32 `json:"index"`
	IfID     uint32 `json:"if_id,omitzero"`
	// Mark is the mark of packets that find this policy.
	Mark Mark `json:"mark,omitzero"`
	// Flags are XFRM_POLICY_*: 1 LOCALOK, 2 ICMP.
	Flags uint8 `json:"flags,omitzero"`
	// Offload is the device of a packet-offloaded policy.
	Offload Offload `json:"offload,omitzero"`
	// Templates are the transforms that the traffic needs, innermost first.
	// They may share memory with those of other policies of the snapshot.
	Templates []Template `json:"templates,omitempty"`
}

// Template is one transform that a policy demands (struct xfrm_user_tmpl).
type Template struct {
	// Family is that of Src and Dst: the outer one in tunnel mode.
	Family Family `json:"family"`
	// Src and Dst are the outer addresses, unspecified where any will do, as
	// in transport mode and on policies of xfrm interfaces.
	Src   netip.Addr `json:"src"`
	Dst   netip.Addr `json:"dst"`
	SPI   uint32     `json:"spi,omitzero"`
	Proto Proto      `json:"proto"`
	Mode  Mode       `json:"mode"`
	Reqid uint32     `json:"reqid"`
	// Optional is set for "level use": without a state the packet passes.
	Optional bool `json:"optional,omitzero"`
}

// Bypass reports whether the policy lets its traffic through in clear.
func (p Policy) Bypass() bool { return p.Action == Allow && len(p.Templates) == 0 }

// Socket reports whether the policy belongs to a single socket.
func (p Policy) Socket() bool { return p.Dir >= SocketIn }

// Protects returns the reqid of a policy's tunnel, if it makes one.
func (p *Policy) Protects() (reqid uint32, ok bool) {
	if p.Action != Allow || p.Type != Main || p.Selector.Src.Addr().Is4In6() || p.Selector.Dst.Addr().Is4In6() {
		return 0, false
	}
	for i := range p.Templates {
		if t := &p.Templates[i]; t.Proto == ESP || t.Proto == AH {
			return t.Reqid, true
		}
	}
	return 0, false
}

// MaxTemplates is the most templates of a policy (XFRM_MAX_DEPTH).
const MaxTemplates = 6
