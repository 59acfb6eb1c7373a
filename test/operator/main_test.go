// Package operator tests the commands for the operator, on networks with real IPsec: the
// kernel does as xfrmfw says of itself and of the host. It runs in the virtual machine of
// scripts/lab:
//
//	XFRMFW_BIN=… go test -exec "$PWD/scripts/lab --kernel 6.1" ./test/operator
//
// Anywhere else its tests are skipped, or fail if XFRMFW_REQUIRE=lab is set.
package operator

import (
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

func TestMain(m *testing.M) { lab.Main(m) }
