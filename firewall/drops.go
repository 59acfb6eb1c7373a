package firewall

// drop leads to the chain that counts, logs and drops a case.
func drop(purpose Purpose) Target { return Target{Verb: Goto, Chain: dropChain(purpose)} }

func dropChain(purpose Purpose) string {
	switch purpose {
	case PurposeSpoof:
		return chainDropSpoof
	case PurposeInject:
		return chainDropInj
	case PurposeCrossed:
		return chainCrossed
	}
	return chainDropLeak
}

// drops ends the cases, each in a chain of its own, where it is counted.
func (l *layout) drops() {
	for _, p := range []Purpose{PurposeSpoof, PurposeInject, PurposeCrossed, PurposeLeak} {
		l.chain(Mangle, dropChain(p), append(l.logged(p), Rule{Target: Target{Verb: Drop}, Purpose: p})...)
	}
	l.chain(Filter, chainRefuse, append(l.logged(PurposeLeak), Rule{Target: Target{Verb: Reject}, Purpose: PurposeReject})...)
}

// logged writes about a case, at a bounded rate. All tunnels share the rule of a case,
// so that a tunnel costs no rule; the logged addresses tell the tunnel.
func (l *layout) logged(p Purpose) []Rule { return logRules(l.Log, string(p), "", "") }

// logRules write about a drop of one tunnel, named as in the configuration or by its
// ID: never by a name that a peer chose.
func logRules(log LogConfig, word, name, tunnel string) []Rule {
	target, ok := logTarget(log, word, name)
	if !ok {
		return nil
	}
	return []Rule{{
		Limit:  Limit{PerSecond: log.PerSecond, Burst: log.PerSecond},
		Target: target, Purpose: PurposeLog, Tunnel: tunnel,
	}}
}

// logTarget is the target that logs a case, and names a tunnel where it has a rule of
// its own. A prefix that is too long is cut.
func logTarget(l LogConfig, word, tunnel string) (Target, bool) {
	prefix := "xfrmfw:" + word + ":"
	if tunnel != "" {
		prefix += tunnel + ":"
	}
	switch {
	case l.PerSecond == 0:
		return Target{}, false
	case l.Kernel:
		return Target{Verb: Log, Prefix: cutPrefix(prefix, maxLogPrefix)}, true
	}
	return Target{Verb: NFLog, Prefix: cutPrefix(prefix, maxNFLogPrefix), Group: l.Group}, true
}

// cutPrefix shortens a log prefix and keeps its end.
func cutPrefix(prefix string, limit int) string {
	if len(prefix) <= limit {
		return prefix
	}
	return prefix[:limit-1] + ":"
}
