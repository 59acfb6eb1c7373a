// Package live reads the live rules from the text that iptables-save prints, and finds
// wanted rules and those of other programs among them.
package live
