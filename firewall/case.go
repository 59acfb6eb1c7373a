package firewall

// A Case is a verdict of xfrmfw(7). The zero value is none.
type Case uint8

// The cases, in the order of the table.
const (
	NoCase Case = iota
	Case1
	Case1b
	Case1c
	Case2
	Case3
	Case4
	Case5
	Case6
	Case6b
	Case7
	Case7b
	Case8
	Case8b
	Case8c
	Case8d
	Case8e
	Case9
)

var caseNames = [...]string{"", "1", "1b", "1c", "2", "3", "4", "5", "6", "6b", "7", "7b", "8", "8b", "8c", "8d", "8e", "9"}

// String returns the case as xfrmfw(7) numbers it, such as "6b", and "" for none.
func (c Case) String() string {
	if int(c) < len(caseNames) {
		return caseNames[c]
	}
	return ""
}

// Action is the fate of a packet.
type Action uint8

// The actions. Leave returns the packet to the rest of the host's firewall; Refuse
// drops it and tells the sender.
const (
	Leave Action = iota
	Admit
	Discard
	Refuse
)

var actionNames = [...]string{"leave", "accept", "drop", "reject"}

// String returns "leave", "accept", "drop" or "reject".
func (a Action) String() string { return actionNames[a] }

// Verdict is the fate of a packet and the case that decides it. NoCase stands for the
// configuration's own limits and for packets that serve IPsec itself.
type Verdict struct {
	Action Action
	Case   Case
}
