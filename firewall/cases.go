package firewall

import "strings"

// decisive are the purposes that name what a packet is, the strongest first: a
// drop tells more than the classification before it, and that more than an
// accept.
var decisive = [...]struct {
	purpose Purpose
	number  string
}{
	{PurposeSpoof, "6"}, {PurposeInject, "6b"}, {PurposeCrossed, "7"}, {PurposeLeak, "8"}, {PurposeReject, "8"},
	{PurposeRestricted, ""}, {PurposeLockdown, ""},
	{PurposeVerified, "1"}, {PurposeRelated, "1b"}, {PurposeIPComp, "1c"}, {PurposePolicyOnly, "2"},
	{PurposeUnconfirmed, "3"}, {PurposeOverlay, "4"},
	{PurposeStranger, "8e"}, {PurposeUnknown, "7b"},
	{PurposeAcceptIn, ""}, {PurposeAcceptOut, ""}, {PurposeOpen, ""}, {PurposeService, ""},
	{PurposeStray, "5"},
}

// Case names what the rules that a packet met, in order, take it for: the number
// in the README's table of verdicts, empty where it has none, and the purpose of
// the rule that decided. A packet that met no such rule is case 9.
func Case(steps []TraceStep) (number string, decided TraceStep) {
	for _, d := range decisive {
		s, ok := Last(steps, d.purpose)
		if !ok {
			continue
		}
		switch d.purpose {
		case PurposeLeak, PurposeReject:
			return leakCase(steps, d.number), s
		case PurposeCrossed:
			if _, other := Last(steps, PurposeForeign); other {
				return "7b", s
			}
		}
		return d.number, s
	}
	return "9", TraceStep{}
}

// leakCase tells the kinds of leaks apart by the guard's rule that led there.
func leakCase(steps []TraceStep, plain string) string {
	guard, ok := Last(steps, PurposeLeakGuard)
	switch r := guard.Rule; {
	case !ok:
		return plain
	case r.Ct.State&(CtSNAT|CtDNAT) != 0:
		return "8b"
	case strings.HasPrefix(guard.Chain, chainError), strings.HasPrefix(guard.Chain, chainLAN+"E-"), strings.HasPrefix(guard.Chain, chainAbout):
		return "8c"
	}
	return plain
}
