package kernel

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

func TestOffloads(t *testing.T) {
	const release = "6.12.0-test"
	list := "/lib/modules/" + release + "/modules.builtin"
	tests := []struct {
		name       string
		files      map[string]string
		esp4, esp6 bool
		noIPv6     bool
	}{
		{name: "no facts at all"},
		{name: "loaded", files: map[string]string{"/sys/module/esp4_offload/refcnt": "1\n"}, esp4: true},
		{name: "built in", files: map[string]string{
			"/proc/sys/kernel/osrelease": release + "\n",
			list:                         "kernel/net/ipv4/esp4.ko\nkernel/net/ipv6/esp6_offload.ko\n",
		}, esp6: true},
		{name: "one of each", files: map[string]string{
			"/proc/sys/kernel/osrelease":      release + "\n",
			list:                              "kernel/net/ipv6/esp6_offload.ko\n",
			"/sys/module/esp4_offload/refcnt": "1\n",
		}, esp4: true, esp6: true},
		{name: "not built in, whatever symbols are there", files: map[string]string{
			"/proc/sys/kernel/osrelease": release + "\n",
			list:                         "kernel/net/ipv4/esp4.ko\nkernel/net/ipv4/my_esp4_offload.ko\n",
			"/proc/kallsyms":             "0000000000000000 t esp4_gro_receive\n",
		}},
		{name: "container without /lib/modules", files: map[string]string{
			"/proc/sys/kernel/osrelease": release + "\n",
			"/proc/kallsyms": "0000000000000000 T xfrm_input\n0000000000000000 t esp6_gro_receive\n" +
				"0000000000000000 t __pfx_esp4_gro_receive\n",
		}, esp6: true},
		{name: "ipv6", files: map[string]string{"/proc/net/if_inet6": ""}},
		{name: "no ipv6", files: map[string]string{"/proc/net/dev": ""}, noIPv6: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := Reader{root: t.TempDir()}
			for name, text := range tt.files {
				writeFile(t, filepath.Join(r.root, name), text)
			}
			for range 2 {
				var h xfrm.Host
				r.readOffloads(&h)
				if h.ESP4Offload != tt.esp4 || h.ESP6Offload != tt.esp6 || h.NoIPv6 != tt.noIPv6 {
					t.Errorf("got %+v, want esp4 %t, esp6 %t, no IPv6 %t", h, tt.esp4, tt.esp6, tt.noIPv6)
				}
			}
		})
	}
}

// A module that is loaded later must be noticed.
func TestOffloadLoadedLater(t *testing.T) {
	r := Reader{root: t.TempDir()}
	var h xfrm.Host
	r.readOffloads(&h)
	writeFile(t, filepath.Join(r.root, "/sys/module/esp4_offload/refcnt"), "1\n")
	r.readOffloads(&h)
	if !h.ESP4Offload {
		t.Error("not noticed")
	}
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
