// Command xfrmfw keeps rules of iptables or nftables that recognise traffic out of
// IPsec tunnels. Its commands are in xfrmfw(8), in the folder man.
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
	err := cmd.ExecuteContext(ctx)
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
			_, _ = fmt.Fprintln(stderr, "xfrmfw: see xfrmfw --help")
		}
	}
	return code
}
