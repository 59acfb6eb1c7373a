// Package coexist runs other firewalls, and programs that move routes and addresses, beside xfrmfw on networks with
// real IPsec, and runs the remedies that doctor names. It runs in the virtual machine of scripts/lab, by
// scripts/soak coexist, as some of these firewalls take minutes to start there:
//
//	XFRMFW_BIN=… go test -exec "$PWD/scripts/lab --kernel 6.1" ./test/coexist
//
// Anywhere else its tests are skipped, or fail if XFRMFW_REQUIRE=lab is set.
package coexist

import (
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

func TestMain(m *testing.M) { lab.Main(m) }
