// Command xfrmfw keeps rules of iptables or nftables that recognise traffic out of
// IPsec tunnels. Its commands are in xfrmfw(8), in the folder man.
//
// A command has a file of its name here, with its flags, one call and the printing. The work
// is in the packages of internal:
//
//	config, memory, peers, approved  read and keep what a look at the host needs besides the kernel
//	gateway   one look: what is wanted, what is live, and the plan between them (engine lays it out)
//	reconcile looks and commits until nothing differs: apply, clear, forget, and for daemon and hook
//	confirm   an apply that has to be confirmed
//	status, explain, doctor, proof   answers; those with a folder gather read the host in it alone
//
// No command decides on a packet: package firewall/decide finds the facts.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
)

func main() {
	// Most of the memory that a command takes is in use until it ends. To search it
	// for garbage takes the processor on which iptables-save runs meanwhile.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(300)
	}
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

// run is main without the process: it executes the command line and returns the
// exit status. Results go to stdout, everything else to stderr.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	cmd, started := newRoot()
	cmd.SetArgs(args)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	called, err := cmd.ExecuteContextC(ctx)
	if err == nil {
		return exitDone
	}
	code := exitStatus(err, *started)
	text := err.Error()
	if command, suggested, ok := strings.Cut(text, "\n\nDid you mean this?\n\t"); ok { // cobra's form of several lines
		text = command + ": did you mean " + strings.ReplaceAll(strings.TrimSpace(suggested), "\n\t", " or ") + "?"
	}
	if text != "" {
		for line := range strings.Lines(text) {
			_, _ = fmt.Fprintln(stderr, "xfrmfw: "+strings.TrimSuffix(line, "\n"))
		}
		if code == exitUsage && !*started {
			if called.Name() == "help" {
				called = called.Root()
			}
			_, _ = fmt.Fprintf(stderr, "xfrmfw: see %s --help\n", called.CommandPath())
		}
	}
	return code
}
