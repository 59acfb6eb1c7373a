package wire

import (
	"encoding/binary"
	"fmt"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Offsets in struct xfrm_userpolicy_info, and in struct xfrm_user_tmpl.
const (
	policyPriority = 152
	policyIndex    = 156
	policyDir      = 160
	policyAction   = 161
	policyFlags    = 162

	templateSPI      = 16
	templateProto    = 20
	templateFamily   = 24
	templateSrc      = 28
	templateReqid    = 44
	templateMode     = 48
	templateOptional = 50
)

// policy fills p, which must be zero, from a struct xfrm_userpolicy_info and
// the attributes behind it.
func (d *Decoder) policy(p *xfrm.Policy, b []byte) error {
	if len(b) < policySize {
		return errShort
	}
	if err := selector(&p.Selector, b[:selectorSize]); err != nil {
		return err
	}
	p.Priority = native.Uint32(b[policyPriority:])
	p.Index = native.Uint32(b[policyIndex:])
	p.Dir = xfrm.Dir(b[policyDir])
	p.Action = xfrm.Action(b[policyAction])
	p.Flags = b[policyFlags]
	if p.Dir > xfrm.SocketOut {
		return fmt.Errorf("direction %d is not known", p.Dir)
	}
	if p.Action > xfrm.Block {
		return fmt.Errorf("action %d is not known", p.Action)
	}
	return d.attrs(b[policySize:], func(typ uint16, v []byte) error {
		if len(v) < policyAttrSize(typ) {
			return errAttr
		}
		var err error
		switch typ {
		case attrTemplates:
			return d.policyTemplates(p, v)
		case attrPolicyType:
			p.Type = xfrm.PolicyType(v[0])
			if p.Type > xfrm.Sub {
				return fmt.Errorf("type %d is not known", v[0])
			}
		case attrMark:
			p.Mark = mark(v)
		case attrIfID:
			p.IfID = native.Uint32(v)
		case attrOffload:
			p.Offload, err = offload(v)
		}
		return err
	})
}

// policyAttrSize is the least length of the attributes that a policy is read from.
func policyAttrSize(typ uint16) int {
	switch typ {
	case attrPolicyType:
		return 1
	case attrMark, attrOffload:
		return 8
	case attrIfID:
		return 4
	}
	return 0
}

// policyTemplates reads an array of struct xfrm_user_tmpl.
func (d *Decoder) policyTemplates(p *xfrm.Policy, v []byte) error {
	n := len(v) / templateSize
	if len(v)%templateSize != 0 {
		return errAttr
	}
	if n > xfrm.MaxTemplates {
		return fmt.Errorf("%d templates, where the kernel allows %d", n, xfrm.MaxTemplates)
	}
	if n == 0 {
		p.Templates = nil
		return nil
	}
	p.Templates = d.room(n)
	for i := range p.Templates {
		if err := template(&p.Templates[i], v[i*templateSize:][:templateSize]); err != nil {
			return fmt.Errorf("template %d: %w", i, err)
		}
	}
	return nil
}

// template overwrites t with a struct xfrm_user_tmpl.
func template(t *xfrm.Template, b []byte) error {
	f, err := family(b[templateFamily:])
	if err != nil {
		return err
	}
	m, err := mode(b[templateMode])
	if err != nil {
		return err
	}
	*t = xfrm.Template{
		Family:   f,
		Src:      addr(f, b[templateSrc:templateSrc+16]),
		Dst:      addr(f, b[0:16]),
		SPI:      binary.BigEndian.Uint32(b[templateSPI:]),
		Proto:    xfrm.Proto(b[templateProto]),
		Mode:     m,
		Reqid:    native.Uint32(b[templateReqid:]),
		Optional: b[templateOptional] != 0,
	}
	return nil
}

// policyName names the policy of a message that could not be decoded, as far
// as the message goes.
func policyName(b []byte) string {
	if len(b) < policySize {
		return fmt.Sprintf("policy message of %d bytes", len(b))
	}
	var s xfrm.Selector
	index := native.Uint32(b[policyIndex:])
	if err := selector(&s, b[:selectorSize]); err != nil {
		return fmt.Sprintf("policy index %d", index)
	}
	return fmt.Sprintf("policy index %d %s dir %s", index, s, xfrm.Dir(b[policyDir]))
}
