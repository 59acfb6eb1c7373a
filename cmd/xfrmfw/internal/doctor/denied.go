package doctor

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/text"
)

// selinuxModule is where the .rpm has it.
const selinuxModule = "/usr/share/selinux/packages/xfrmfw.cil"

// denied are accesses that the updown hook, or the programs that it runs, were denied:
// one finding for each domain or profile.
func denied(in Input) []Finding {
	type key struct{ module, subject string }
	accesses := make(map[key][]string)
	for _, d := range in.Denials {
		what := d.Operation
		if d.Object != "" {
			what += " of " + d.Object
		}
		if d.Command != "" {
			what += " by " + d.Command
		}
		k := key{d.Module, d.Subject}
		if !slices.Contains(accesses[k], what) {
			accesses[k] = append(accesses[k], what)
		}
	}
	var keys []key
	for k := range accesses {
		slices.Sort(accesses[k])
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b key) int { return cmp.Or(cmp.Compare(a.module, b.module), cmp.Compare(a.subject, b.subject)) })
	var found []Finding
	for _, k := range keys {
		f := Finding{
			Severity: Error, Seen: fmt.Sprintf("%s denied %s in the last 24 hours: %s", k.module, k.subject, text.FirstOf(accesses[k])),
			Breaks: "the updown hook does not do its work: without xfrmfw daemon the rules do not follow the tunnels, and the peers are not known by name",
		}
		if k.module == "SELinux" {
			f.Mend = []string{
				"semodule -X 200 -i " + selinuxModule + "    # of the .rpm; in the source scripts/dist/selinux/xfrmfw.cil",
				"restorecon -Rv /usr/sbin/xfrmfw /run/xfrmfw /var/lib/xfrmfw",
			}
		} else {
			profile := strings.ReplaceAll(strings.TrimPrefix(k.subject, "/"), "/", ".")
			f.Mend = []string{
				"printf '%s\\n' '/usr/libexec/xfrmfw/updown PUx,' '/usr/sbin/xfrmfw PUx,' >>" + "/etc/apparmor.d/local/" + word(profile),
				"apparmor_parser -r " + "/etc/apparmor.d/" + word(profile),
			}
		}
		found = append(found, f)
	}
	return found
}
