// Package iptables runs the host's iptables programs: it reads the live rules
// with iptables-save, and writes with iptables-restore the rules that package plan
// has planned. It decides nothing about rules itself.
package iptables
