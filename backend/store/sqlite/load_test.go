package sqlite

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"flannel/backend/store"
	"flannel/protocol"
)

// loadSize is what BenchmarkLoad writes.
type loadSize struct{ users, public, private, memberships int }

// BenchmarkLoad writes whole workspaces as generate does. The time grows linearly with the memberships; the memory does
// not grow. The large size is the largest preset: it takes a minute.
func BenchmarkLoad(b *testing.B) {
	for _, size := range []loadSize{{530, 35, 40, 5_000}, {148_170, 7_408, 2_592, 3_700_000}} {
		b.Run(strconv.Itoa(size.users), func(b *testing.B) {
			for b.Loop() {
				path := filepath.Join(b.TempDir(), "store.db")
				st, err := Open(context.Background(), Options{Path: path})
				if err != nil {
					b.Fatal(err)
				}
				n, err := loadWorkspace(st, size)
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if err := st.Close(); err != nil {
					b.Fatal(err)
				}
				info, err := os.Stat(path)
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(n), "memberships")
				b.ReportMetric(float64(info.Size())/(1<<20), "file-MiB")
				b.ReportMetric(peakMiB(b), "peak-MiB")
				b.StartTimer()
			}
		})
	}
}

// loadWorkspace writes a workspace whose channel sizes have a heavy tail; it returns the number of memberships.
func loadWorkspace(st *Store, size loadSize) (n int, err error) {
	const workspace = protocol.WorkspaceID("T0000LOAD")
	err = st.Load(context.Background(), func(tx store.Tx) error {
		if err := tx.Put(&protocol.Workspace{ID: workspace, Name: "Load", Domain: "load", Updated: 1}); err != nil {
			return err
		}
		users := make([]protocol.UserID, size.users)
		for i := range users {
			users[i] = protocol.UserID(fmt.Sprintf("U%010d", i*7919%size.users))
		}
		for i, id := range users {
			name := fmt.Sprintf("person.%d", i)
			u := &protocol.User{
				ID: id, TeamID: workspace, Name: name, RealName: "Person Number " + name, TZ: "Europe/Berlin", TZLabel: "Central European Time", Color: "9f69e7", Updated: 1,
				Profile: protocol.Profile{RealName: "Person Number " + name, DisplayName: name, Email: name + "@load.example", Title: "Senior Something", AvatarHash: "g0123456789a"},
			}
			if err := tx.Put(u); err != nil {
				return err
			}
		}
		// The r-th channel has about r^-0.6 of the members of the first, which has everybody.
		weight := 0.0
		for r := range size.public {
			weight += math.Pow(float64(r+1), -0.6)
		}
		ordered := make([]protocol.UserID, size.users)
		for i := range ordered {
			ordered[i] = protocol.UserID(fmt.Sprintf("U%010d", i))
		}
		at := time.Unix(1_700_000_000, 0)
		for i := range size.public + size.private {
			c := &protocol.Channel{ID: protocol.ChannelID(fmt.Sprintf("C%09d", i)), Name: fmt.Sprintf("channel-%d", i), ContextTeamID: workspace, Updated: 1, IsChannel: true, IsPrivate: i >= size.public}
			if err := tx.Put(c); err != nil {
				return err
			}
			members := 20
			if i < size.public {
				members = max(2, min(size.users, int(float64(size.memberships)/weight*math.Pow(float64(i+1), -0.6))))
			}
			m := protocol.Membership{Channel: c.ID, Owner: workspace, Type: c.Type()}
			step := size.users / members
			for k := range members {
				if err := tx.AddMember(ordered[(k*step+i)%size.users], m); err != nil {
					return err
				}
				n++
			}
			msg := &protocol.Message{Type: "message", Channel: c.ID, User: ordered[i%size.users], Text: strings.Repeat("words ", 10), TS: protocol.TS(fmt.Sprintf("%010d.000100", at.Unix()+int64(i)))}
			if err := tx.InsertMessage(msg, "", store.Mentions{}); err != nil {
				return err
			}
		}
		return nil
	})
	return n, err
}

// peakMiB returns the largest resident size that the process ever had, where the system tells it.
func peakMiB(tb testing.TB) float64 {
	tb.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		var ms runtime.MemStats
		runtime.ReadMemStats(&ms)
		return float64(ms.Sys) / (1 << 20)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			var kb float64
			if _, err := fmt.Sscanf(rest, "%f kB", &kb); err == nil {
				return kb / 1024
			}
		}
	}
	return 0
}
