package firewall

import (
	"fmt"
	"strings"
)

// few joins the first three sentences and gives the number of the others.
func few(list []string) string {
	const shown = 3
	if len(list) <= shown {
		return strings.Join(list, "; ")
	}
	return fmt.Sprintf("%s; and %d more", strings.Join(list[:shown], "; "), len(list)-shown)
}
