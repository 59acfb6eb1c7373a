package peers

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Daemon is the IKE daemon that told.
type Daemon string

// The daemons.
const (
	StrongSwan Daemon = "strongswan"
	Libreswan  Daemon = "libreswan"
)

// Ports is a range of ports; the zero value is any.
type Ports [2]uint16

// Record is the hook's report on one pair of selectors.
type Record struct {
	Daemon Daemon `json:"daemon"`
	// Connection is the administrator's name of it: of the child, in swanctl.conf.
	Connection string `json:"connection"`
	// PeerID is the IKE identity and User that of EAP or XAuth, empty where
	// there was none. Both are cleaned.
	PeerID     string       `json:"peer_id"`
	User       string       `json:"user"`
	VirtualIPs []netip.Addr `json:"virtual_ips"`
	// Local and Remote are the selectors, Proto 0 for any.
	Local      netip.Prefix `json:"local"`
	Remote     netip.Prefix `json:"remote"`
	Proto      xfrm.Proto   `json:"proto"`
	LocalPort  Ports        `json:"local_port"`
	RemotePort Ports        `json:"remote_port"`
	// Outer is where the peer was at that time, and OuterPort its UDP port, 0
	// without encapsulation. Either changes without the hook being told.
	Outer     netip.Addr `json:"outer"`
	OuterPort uint16     `json:"outer_port"`
	// Reqid is as the daemon says it, which for Libreswan is not the kernel's.
	Reqid uint32 `json:"reqid"`
	// Serial numbers strongSwan's IKE SAs, the later the higher; 0 is not known.
	Serial uint32 `json:"serial"`
	// Boot is the kernel's name of this boot. Time is in nanoseconds since then.
	Boot string `json:"boot"`
	Time int64  `json:"time"`
}

// Identity is the peer's proven identity: the user where there is one, because the
// IKE identity is then the client's own choice, else the IKE identity.
func (r Record) Identity() string {
	if r.User != "" {
		return r.User
	}
	return r.PeerID
}

// who returns the identity of a record's peer.
type who struct{ connection, peerID, user string }

func (r Record) who() who { return who{r.Connection, r.PeerID, r.User} }

// name is the name of the record's file: hashes of the connection and of the peer, which
// have a share of the room each, then one of all that tells the record from others.
func (r Record) name() string {
	return r.share() + r.hash()[:hashDigits-shareDigits]
}

// The digits of a name: those of the connection, of it and the peer, and all.
const connectionDigits, shareDigits, hashDigits = 4, 10, 32

// share begins the names of all records of one peer.
func (r Record) share() string {
	peer := r.who()
	return digest(r.Connection)[:connectionDigits] + digest(peer.connection, peer.peerID, peer.user)[:shareDigits-connectionDigits]
}

// formerName is the name that earlier releases gave the record.
func (r Record) formerName() string { return r.hash() }

func (r Record) hash() string {
	return digest(r.Daemon, r.Connection, r.PeerID, r.User, r.Local, r.Remote, r.Proto, r.LocalPort, r.RemotePort, r.Reqid)
}

func digest(parts ...any) string {
	text, err := json.Marshal(parts)
	if err != nil {
		panic(err) // nothing of it can fail
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:hashDigits/2])
}

// The bounds of a record. Longer texts are cut.
const (
	maxText       = 256
	maxVirtualIPs = 16
)

// replaced stands for bytes that were taken out of a text. No text of the
// administrator's has it, so that no cleaned text ever passes for one.
const replaced = utf8.RuneError

// clean makes a text of any origin fit to be kept: valid UTF-8 of visible
// characters, and no longer than maxText bytes.
func clean(text string) string {
	var b strings.Builder
	for _, r := range text {
		if unicode.IsControl(r) || !unicode.IsPrint(r) {
			r = replaced
		}
		if b.Len()+utf8.RuneLen(r) > maxText-utf8.RuneLen(replaced) {
			b.WriteRune(replaced)
			break
		}
		b.WriteRune(r)
	}
	return b.String()
}

// encode renders a record as the text of its file.
func (r Record) encode() ([]byte, error) { return json.Marshal(r) }

// decode reads the text of a file. All of it is as the hook would have written
// it, or there is an error.
func decode(text []byte) (Record, error) {
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.DisallowUnknownFields()
	var r Record
	if err := d.Decode(&r); err != nil {
		return Record{}, err
	}
	if d.More() {
		return Record{}, errors.New("text after its end")
	}
	if err := r.valid(); err != nil {
		return Record{}, err
	}
	return r, nil
}

func (r Record) valid() error {
	for _, text := range []string{r.Connection, r.PeerID, r.User} {
		if clean(text) != text {
			return errors.New("a text with characters that no record has")
		}
	}
	switch {
	case r.Daemon != StrongSwan && r.Daemon != Libreswan:
		return fmt.Errorf("daemon %.20q is not known", string(r.Daemon))
	case !r.Local.IsValid(), !r.Remote.IsValid(), r.Local != r.Local.Masked(), r.Remote != r.Remote.Masked(),
		r.Local.Addr().Is4() != r.Remote.Addr().Is4(), r.Local.Addr().Is4In6(), r.Remote.Addr().Is4In6():
		return errors.New("its selectors are not valid")
	case len(r.VirtualIPs) > maxVirtualIPs:
		return errors.New("too many virtual addresses")
	case r.LocalPort[0] > r.LocalPort[1], r.RemotePort[0] > r.RemotePort[1]:
		return errors.New("its ports are not valid")
	case len(r.Boot) > 64, clean(r.Boot) != r.Boot:
		return errors.New("its boot ID is not valid")
	case r.Outer.Zone() != "":
		return errors.New("its outer address has a zone")
	}
	for _, a := range r.VirtualIPs {
		if !a.IsValid() || a.Zone() != "" {
			return errors.New("a virtual address is not valid")
		}
	}
	return nil
}
