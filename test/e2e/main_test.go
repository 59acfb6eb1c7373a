// Package e2e tests xfrmfw end to end, on networks with real IPsec. It runs in the virtual machine of scripts/lab:
//
//	XFRMFW_BIN=… go test -exec "$PWD/scripts/lab --kernel 6.12" ./test/e2e
//
// Anywhere else its tests are skipped, or fail if XFRMFW_REQUIRE=lab is set.
package e2e

import (
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

func TestMain(m *testing.M) { lab.Main(m) }
