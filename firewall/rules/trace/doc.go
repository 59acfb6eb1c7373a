// Package trace runs packets through rule sets as netfilter would.
package trace
