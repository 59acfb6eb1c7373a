package gather

import (
	"bytes"
	"errors"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/doctor"
)

const (
	// denialsFor is for how long a denial counts: one from before it was mended stays in
	// the log.
	denialsFor = 24 * time.Hour
	// logTail is how much of the audit log is read, from its end.
	logTail = 1 << 20
)

// Denials reads from the kernel's messages and from auditd's log the accesses that SELinux and
// AppArmor denied to the updown hook and to the programs that it runs.
func (h Host) Denials(now time.Time) []doctor.Denial {
	var found []doctor.Denial
	for line := range strings.Lines(h.messages() + h.auditLog()) {
		d, at, ok := parseDenial(strings.TrimSpace(line))
		if ok && now.Sub(at) < denialsFor && !slices.Contains(found, d) {
			found = append(found, d)
		}
	}
	return found
}

// messages are those that the kernel still holds. Each read of the device returns one.
func (h Host) messages() string {
	fd, err := syscall.Open(h.path("/dev/kmsg"), syscall.O_RDONLY|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer func() { _ = syscall.Close(fd) }()
	var all bytes.Buffer
	buffer := make([]byte, 8<<10)
	for all.Len() < 4*logTail {
		n, err := syscall.Read(fd, buffer)
		switch {
		case errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.EINTR): // overwritten meanwhile
		case err != nil || n <= 0:
			return all.String()
		default:
			_, _ = all.Write(buffer[:n])
		}
	}
	return all.String()
}

// auditLog is the end of the log of auditd, which takes records from the kernel's
// messages.
func (h Host) auditLog() string {
	f, err := os.Open(h.path("/var/log/audit/audit.log"))
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	if size, err := f.Seek(0, io.SeekEnd); err == nil {
		_, _ = f.Seek(max(0, size-logTail), io.SeekStart)
	}
	b, _ := io.ReadAll(io.LimitReader(f, logTail))
	return string(b)
}

// auditTime is the time of a record; accessVector the accesses that SELinux denied.
var (
	auditTime    = regexp.MustCompile(`audit\((\d+)\.\d+:\d+\)`)
	accessVector = regexp.MustCompile(`avc:\s+denied\s+\{ ([a-z0-9_ ]+) \}`)
)

// parseDenial reads an audit record. It is one of ours if it is about a file or process
// of xfrmfw, or about iptables where the IKE daemon's domain or profile ran it.
func parseDenial(line string) (doctor.Denial, time.Time, bool) {
	d := doctor.Denial{Command: field(line, "comm")}
	if m := accessVector.FindStringSubmatch(line); m != nil {
		if field(line, "permissive") == "1" {
			return d, time.Time{}, false
		}
		d.Module, d.Operation = "SELinux", m[1]
		context := strings.Split(field(line, "scontext"), ":")
		if len(context) < 3 {
			return d, time.Time{}, false
		}
		d.Subject = context[2]
		if d.Object = field(line, "path"); d.Object == "" {
			d.Object = field(line, "name")
		}
	} else if field(line, "apparmor") == "DENIED" {
		d.Module, d.Operation, d.Subject, d.Object = "AppArmor", field(line, "operation"), field(line, "profile"), field(line, "name")
	} else {
		return d, time.Time{}, false
	}
	at := auditTime.FindStringSubmatch(line)
	if at == nil || d.Subject == "" || !aboutUs(d) {
		return d, time.Time{}, false
	}
	seconds, _ := strconv.ParseInt(at[1], 10, 64)
	return d, time.Unix(seconds, 0), true
}

func aboutUs(d doctor.Denial) bool {
	ike := strings.HasPrefix(d.Subject, "ipsec") || strings.Contains(d.Subject, "charon") || strings.Contains(d.Subject, "pluto") || strings.Contains(d.Subject, "swan")
	program := strings.HasPrefix(d.Command, "iptables") || strings.HasPrefix(d.Command, "ip6tables") || strings.HasPrefix(d.Command, "xtables")
	return strings.Contains(d.Object, "xfrmfw") || strings.Contains(d.Command, "xfrmfw") || strings.Contains(d.Subject, "xfrmfw") || ike && program
}

// field returns the value of a word of a record, with or without quotes.
func field(line, name string) string {
	for rest := line; ; {
		at := strings.Index(rest, name+"=")
		if at < 0 {
			return ""
		}
		value := rest[at+len(name)+1:]
		if at == 0 || rest[at-1] == ' ' {
			if quoted, ok := strings.CutPrefix(value, `"`); ok {
				value, _, _ = strings.Cut(quoted, `"`)
			} else {
				value, _, _ = strings.Cut(value, " ")
			}
			return value
		}
		rest = value
	}
}
