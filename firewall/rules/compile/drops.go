package compile

import (
	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
)

// drop leads to the chain that counts, logs and drops a case.
func drop(purpose rules.Purpose) rules.Target {
	return rules.Target{Verb: rules.Goto, Chain: dropChain(purpose)}
}

func dropChain(purpose rules.Purpose) string {
	switch purpose {
	case rules.PurposeSpoof:
		return chainDropSpoof
	case rules.PurposeInject:
		return chainDropInj
	case rules.PurposeCrossed:
		return chainCrossed
	}
	return chainDropLeak
}

// drops ends the cases, each in a chain of its own, where it is counted.
func (l *layout) drops() {
	for _, p := range []rules.Purpose{rules.PurposeSpoof, rules.PurposeInject, rules.PurposeCrossed, rules.PurposeLeak} {
		l.chain(rules.Mangle, dropChain(p), append(l.logged(p), rules.Rule{Target: rules.Target{Verb: rules.Drop}, Purpose: p})...)
	}
	l.chain(rules.Filter, chainRefuse, append(l.logged(rules.PurposeLeak), rules.Rule{Target: rules.Target{Verb: rules.Reject}, Purpose: rules.PurposeReject})...)
}

// logged writes about a case, at a bounded rate. All tunnels share the rule of a case,
// so that a tunnel costs no rule; the logged addresses tell the tunnel.
func (l *layout) logged(p rules.Purpose) []rules.Rule { return logRules(l.Log, string(p), "", "") }

// logRules write about a drop of one tunnel, named as in the configuration or by its
// ID: never by a name that a peer chose.
func logRules(log firewall.LogConfig, word, name, tunnel string) []rules.Rule {
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
