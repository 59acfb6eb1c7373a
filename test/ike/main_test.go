// Package ike tests xfrmfw beside real IKE daemons: the updown hook, and the identity of
// a peer that it records. It runs in the virtual machine of scripts/lab, with its newer
// kernel and iptables-nft:
//
//	XFRMFW_BIN=… go test -exec "$PWD/scripts/lab --kernel 6.12" ./test/ike
//
// Anywhere else its tests are skipped, or fail if XFRMFW_REQUIRE=lab is set.
package ike

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

func TestMain(m *testing.M) {
	if lab.Missing() == "" {
		if err := loadESP(); err != nil {
			fmt.Fprintln(os.Stderr, "ike:", err)
			os.Exit(1)
		}
	}
	lab.Main(m)
}

// loadESP has the kernel load and test the ciphers of ESP, by a state that ends with its
// network. Under emulation that takes half a minute, and no IKE daemon's peer waits for
// so long.
func loadESP() error {
	out, err := exec.Command("unshare", "--net", "ip", "xfrm", "state", "add", "src", "192.0.2.1", "dst", "192.0.2.2", "proto", "esp", "spi", "1",
		"mode", "tunnel", "aead", "rfc4106(gcm(aes))", fmt.Sprintf("0x%x", lab.Key(1)), "128").CombinedOutput()
	if err != nil {
		return fmt.Errorf("load ESP: %w: %s", err, out)
	}
	return nil
}
