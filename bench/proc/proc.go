// Package proc reads what a process costs from /proc: processor time and resident memory. It is asked by the scenarios of
// flannel bench, from any goroutine. It needs Linux.
package proc

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Process is one that is measured.
type Process struct{ PID int }

// tick is the unit of times in /proc: USER_HZ is 100 on every architecture that Go runs on.
const tick = 10 * time.Millisecond

// CPU returns the processor time that the process has used, in user mode and in the kernel, all threads together.
func (p Process) CPU() (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID))
	if err != nil {
		return 0, fmt.Errorf("read processor time: %w", err)
	}
	// The name may have blanks and brackets in it; what counts comes behind the last bracket, from field 3.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 13 {
		return 0, errors.New("read processor time: the line is too short")
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * tick, errors.Join(err1, err2)
}

// Memory is what a process holds, in bytes.
type Memory struct {
	Resident int64 // now
	Peak     int64 // the most it ever was
}

// Memory returns what the process holds.
func (p Process) Memory() (m Memory, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID))
	if err != nil {
		return m, fmt.Errorf("read memory: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		var to *int64
		switch words[0] {
		case "VmRSS:":
			to = &m.Resident
		case "VmHWM:":
			to = &m.Peak
		default:
			continue
		}
		kib, err := strconv.ParseInt(words[1], 10, 64)
		if err != nil {
			return m, fmt.Errorf("read memory: %w", err)
		}
		*to = kib << 10
	}
	if m.Resident == 0 {
		return m, errors.New("read memory: the process has ended")
	}
	return m, nil
}
