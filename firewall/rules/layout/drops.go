package layout

import (
	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
)

// Drop leads to the chain that counts, logs and drops a case.
func Drop(purpose rules.Purpose) rules.Target {
	return rules.Target{Verb: rules.Goto, Chain: dropChain(purpose)}
}

func dropChain(purpose rules.Purpose) string {
	switch purpose {
	case rules.PurposeSpoof:
		return ChainDropSpoof
	case rules.PurposeInject:
		return ChainDropInj
	case rules.PurposeCrossed:
		return ChainCrossed
	}
	return ChainDropLeak
}

// Drops ends the cases, each in a chain of its own, where it is counted.
func (l *Layout) Drops() {
	for _, p := range []rules.Purpose{rules.PurposeSpoof, rules.PurposeInject, rules.PurposeCrossed, rules.PurposeLeak} {
		l.Chain(rules.Mangle, dropChain(p), append(l.Logged(p), rules.Rule{Target: rules.Target{Verb: rules.Drop}, Purpose: p})...)
	}
	l.Chain(rules.Filter, ChainRefuse, append(l.Logged(rules.PurposeLeak), rules.Rule{Target: rules.Target{Verb: rules.Reject}, Purpose: rules.PurposeReject})...)
}

// Logged writes about a case, at a bounded rate. All tunnels share the rule of a case,
// so that a tunnel costs no rule; the logged addresses tell the tunnel.
func (l *Layout) Logged(p rules.Purpose) []rules.Rule { return LogRules(l.Log, string(p), "", "") }

// LogRules write about a drop of one tunnel, named as in the configuration or by its
// ID: never by a name that a peer chose.
func LogRules(log firewall.LogConfig, word, name, tunnel string) []rules.Rule {
	target, ok := logTarget(log, word, name)
	if !ok {
		return nil
	}
	return []rules.Rule{{
		Limit:  rules.Limit{PerSecond: log.PerSecond, Burst: log.PerSecond},
		Target: target, Purpose: rules.PurposeLog, Tunnel: tunnel,
	}}
}

// logTarget is the target that logs a case, and names a tunnel where it has a rule of
// its own. A prefix that is too long is cut.
func logTarget(l firewall.LogConfig, word, tunnel string) (rules.Target, bool) {
	prefix := "xfrmfw:" + word + ":"
	if tunnel != "" {
		prefix += tunnel + ":"
	}
	switch {
	case l.PerSecond == 0:
		return rules.Target{}, false
	case l.Kernel:
		return rules.Target{Verb: rules.Log, Prefix: cutPrefix(prefix, rules.MaxLogPrefix)}, true
	}
	return rules.Target{Verb: rules.NFLog, Prefix: cutPrefix(prefix, rules.MaxNFLogPrefix), Group: l.Group}, true
}

// cutPrefix shortens a log prefix and keeps its end.
func cutPrefix(prefix string, limit int) string {
	if len(prefix) <= limit {
		return prefix
	}
	return prefix[:limit-1] + ":"
}

// LockedOut counts, logs and drops the packets that lockdown blocks.
func (l *Layout) LockedOut() []rules.Rule {
	return append(l.Logged(rules.PurposeLockdown), rules.Rule{Target: rules.Target{Verb: rules.Drop}, Purpose: rules.PurposeLockdown})
}
