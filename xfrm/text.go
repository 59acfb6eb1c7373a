package xfrm

import (
	"fmt"
	"strconv"
)

// The methods here give the enumerations their form in a snapshot's JSON:
// names where there are any, so that a person can read and edit the file.

// MarshalText renders the family's name.
func (f Family) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText accepts "ipv4" and "ipv6".
func (f *Family) UnmarshalText(text []byte) error {
	switch string(text) {
	case "ipv4":
		*f = IPv4
	case "ipv6":
		*f = IPv6
	default:
		return fmt.Errorf("parse family %q: want ipv4 or ipv6", text)
	}
	return nil
}

// MarshalText renders the protocol's name or number.
func (p Proto) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText accepts a protocol's name or number.
func (p *Proto) UnmarshalText(text []byte) error {
	v, err := ParseProto(string(text))
	*p = v
	return err
}

// ParseProto reads a protocol's name, as Proto.String writes it, or its number.
func ParseProto(text string) (Proto, error) {
	for i := 0; i < 256; i++ {
		if name, ok := protoName(Proto(i)); ok && name == text {
			return Proto(i), nil
		}
	}
	n, err := strconv.ParseUint(text, 10, 8)
	if err != nil {
		return 0, fmt.Errorf("parse protocol %q: not a known name or a number below 256", text)
	}
	return Proto(n), nil
}

// MarshalText renders the mode's name.
func (m Mode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText accepts a mode's name or number.
func (m *Mode) UnmarshalText(text []byte) error {
	v, err := valueOf(modeNames[:], "mode", string(text))
	*m = Mode(v)
	return err
}

// MarshalText renders the direction's name.
func (d Dir) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText accepts a direction's name or number.
func (d *Dir) UnmarshalText(text []byte) error {
	v, err := valueOf(dirNames[:], "direction", string(text))
	*d = Dir(v)
	return err
}

// MarshalText renders "in", "out" or nothing.
func (d SADir) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText accepts the output of MarshalText.
func (d *SADir) UnmarshalText(text []byte) error {
	v, err := valueOf(saDirNames[:], "state direction", string(text))
	*d = SADir(v)
	return err
}

// MarshalText renders the action's name.
func (a Action) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText accepts an action's name or number.
func (a *Action) UnmarshalText(text []byte) error {
	v, err := valueOf(actionNames[:], "action", string(text))
	*a = Action(v)
	return err
}

// MarshalText renders the type's name.
func (t PolicyType) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText accepts a type's name or number.
func (t *PolicyType) UnmarshalText(text []byte) error {
	v, err := valueOf(policyTypeNames[:], "policy type", string(text))
	*t = PolicyType(v)
	return err
}
