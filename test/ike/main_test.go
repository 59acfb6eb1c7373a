// Package ike tests xfrmfw beside real IKE daemons: the updown hook, and the identity of
// a peer that it records. It runs in the virtual machine of scripts/lab, with its newer
// kernel and iptables-nft:
//
//	XFRMFW_BIN=… go test -exec "$PWD/scripts/lab --kernel 6.12" ./test/ike
//
// Anywhere else its tests are skipped, or fail if XFRMFW_REQUIRE=lab is set.
package ike

import (
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

func TestMain(m *testing.M) { lab.Main(m) }
