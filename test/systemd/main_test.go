// Package systemd tests the packages and units of xfrmfw, and the commands of README.md
// and the manual pages, on a Debian of their own, with systemd as its process 1, in the
// virtual machine of scripts/lab:
//
//	scripts/fetch debian gateway strongswan
//	scripts/package --arch amd64 FOLDER
//	XFRMFW_PACKAGES=FOLDER go test -exec "$PWD/scripts/lab --kernel 6.1" ./test/systemd
//
// Anywhere else its tests are skipped, or fail if XFRMFW_REQUIRE=lab is set.
package systemd

import (
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

func TestMain(m *testing.M) { lab.Main(m) }
