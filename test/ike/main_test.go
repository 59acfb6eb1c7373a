// Package ike tests xfrmfw beside real IKE daemons: the updown hook, and who it says that a peer is. It runs in the
// virtual machine of scripts/lab, with its newer kernel and iptables-nft:
//
//	XFRMFW_BIN=… go test -exec "$PWD/scripts/lab --kernel 6.12" ./test/ike
//
// Anywhere else its tests are skipped, or fail if XFRMFW_REQUIRE=lab is set.
package ike

import (
	"fmt"
	"os"
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

func TestMain(m *testing.M) {
	if missing := lab.Missing(); missing != "" && lab.Required("lab") {
		fmt.Fprintln(os.Stderr, "ike:", missing)
		os.Exit(1)
	}
	os.Exit(m.Run())
}
