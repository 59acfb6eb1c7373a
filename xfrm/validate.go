package xfrm

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Validate reports the first breach of the rules that other code relies on. A value that the
// Decoder and xfrm/kernel deliver always passes; a file may not. In a valid
// snapshot
//
//   - Schema is SchemaVersion;
//   - every family is IPv4 or IPv6, and every address and prefix beside it is
//     of that family, has no zone, and a prefix is masked;
//   - a state's selector is either complete or the zero Selector, which selects
//     everything; a policy's is complete;
//   - a port has no bit outside of its mask;
//   - directions, modes, actions and policy types have one of the named values;
//   - a policy has at most six templates;
//   - names of algorithms and link kinds are printable ASCII without spaces;
//   - names of links are such names too, of at most 15 bytes, without "/" and
//     quotes; link indexes are positive and unique;
//   - every address of the host and destination of a route is valid;
//   - the texts of Skipped are printable.
func (s Snapshot) Validate() error {
	if s.Schema != SchemaVersion {
		return fmt.Errorf("validate snapshot: schema %d is not the supported %d", s.Schema, SchemaVersion)
	}
	for i := range s.States {
		if err := s.States[i].validate(); err != nil {
			return fmt.Errorf("validate snapshot: state %d: %w", i, err)
		}
	}
	for i := range s.Policies {
		if err := s.Policies[i].validate(); err != nil {
			return fmt.Errorf("validate snapshot: policy %d: %w", i, err)
		}
	}
	for i, o := range s.Skipped {
		if !printable(o.Object) || !printable(o.Reason) {
			return fmt.Errorf("validate snapshot: skipped object %d: text is not printable", i)
		}
	}
	if err := s.Host.validate(); err != nil {
		return fmt.Errorf("validate snapshot: host: %w", err)
	}
	return nil
}

func (x *State) validate() error {
	if err := checkFamily(x.Family); err != nil {
		return err
	}
	if err := checkAddr(x.Family, x.Src); err != nil {
		return fmt.Errorf("source: %w", err)
	}
	if err := checkAddr(x.Family, x.Dst); err != nil {
		return fmt.Errorf("destination: %w", err)
	}
	if x.Selector != (Selector{}) {
		if err := x.Selector.validate(); err != nil {
			return err
		}
	}
	if x.Dir > Outbound {
		return fmt.Errorf("direction %d is not known", x.Dir)
	}
	if !x.Mode.Known() {
		return fmt.Errorf("mode %d is not known", x.Mode)
	}
	for _, name := range [...]string{x.Algs.AEAD, x.Algs.Crypt, x.Algs.Auth, x.Algs.Comp} {
		if name == "" {
			continue
		}
		if err := CheckAlgorithm(name); err != nil {
			return err
		}
	}
	return x.Offload.validate()
}

func (p *Policy) validate() error {
	if err := p.Selector.validate(); err != nil {
		return err
	}
	switch {
	case p.Dir > SocketOut:
		return fmt.Errorf("direction %d is not known", p.Dir)
	case p.Action > Block:
		return fmt.Errorf("action %d is not known", p.Action)
	case p.Type > Sub:
		return fmt.Errorf("type %d is not known", p.Type)
	case len(p.Templates) > MaxTemplates:
		return fmt.Errorf("%d templates, where the kernel allows %d", len(p.Templates), MaxTemplates)
	}
	for i, t := range p.Templates {
		if err := t.validate(); err != nil {
			return fmt.Errorf("template %d: %w", i, err)
		}
	}
	return p.Offload.validate()
}

func (t Template) validate() error {
	if !t.Mode.Known() {
		return fmt.Errorf("mode %d is not known", t.Mode)
	}
	if err := checkFamily(t.Family); err != nil {
		return err
	}
	if err := checkAddr(t.Family, t.Src); err != nil {
		return fmt.Errorf("source: %w", err)
	}
	if err := checkAddr(t.Family, t.Dst); err != nil {
		return fmt.Errorf("destination: %w", err)
	}
	return nil
}

func (s Selector) validate() error {
	if err := checkFamily(s.Family); err != nil {
		return fmt.Errorf("selector: %w", err)
	}
	if err := checkPrefix(s.Family, s.Src); err != nil {
		return fmt.Errorf("selector's source: %w", err)
	}
	if err := checkPrefix(s.Family, s.Dst); err != nil {
		return fmt.Errorf("selector's destination: %w", err)
	}
	if s.SPort.Port&^s.SPort.Mask != 0 || s.DPort.Port&^s.DPort.Mask != 0 {
		return errors.New("selector's port has bits outside of its mask")
	}
	if s.Ifindex < 0 {
		return fmt.Errorf("selector's interface index %d is negative", s.Ifindex)
	}
	return nil
}

func (o Offload) validate() error {
	if o.Ifindex < 0 {
		return fmt.Errorf("offload: interface index %d is negative", o.Ifindex)
	}
	return nil
}

func checkFamily(f Family) error {
	if f != IPv4 && f != IPv6 {
		return fmt.Errorf("address family %d is neither IPv4 nor IPv6", f)
	}
	return nil
}

func checkAddr(f Family, a netip.Addr) error {
	switch {
	case !a.IsValid():
		return errors.New("no address")
	case a.BitLen() != f.bits():
		return fmt.Errorf("address %s is not of family %s", a, f)
	case a.Zone() != "":
		return fmt.Errorf("address %s has a zone", a)
	}
	return nil
}

func checkPrefix(f Family, p netip.Prefix) error {
	switch {
	case !p.IsValid():
		return errors.New("no prefix")
	case p.Addr().BitLen() != f.bits():
		return fmt.Errorf("prefix %s is not of family %s", p, f)
	case p != p.Masked():
		return fmt.Errorf("prefix %s has bits beyond its length: want %s", p, p.Masked())
	}
	return nil
}

// CheckAlgorithm accepts a name that fits in the kernel's alg_name and is safe to
// print. The error does not repeat the name: it came from a message with a key.
func CheckAlgorithm(name string) error {
	if name == "" || len(name) >= AlgorithmSize || !token(name) {
		return errors.New("algorithm's name is empty, too long or not printable")
	}
	return nil
}

// token reports whether s is printable ASCII without spaces.
func token(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// bits is the length of the family's addresses.
func (f Family) bits() int {
	if f == IPv6 {
		return 128
	}
	return 32
}
