package sqlite

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"flannel/backend/store"
	"flannel/protocol"
)

// benchUsers is how many people the benchmarks' workspace has; see loadWorkspace for the ids.
const benchUsers = 4000

func openLoaded(b *testing.B, size loadSize) *Store {
	b.Helper()
	st := openNew(b)
	if _, err := loadWorkspace(st, size); err != nil {
		b.Fatal(err)
	}
	return st
}

// post is what a posted message costs the store: timestamp, message, event.
func post(st *Store, channel protocol.ChannelID, author protocol.UserID, mentions store.Mentions) error {
	_, err := st.Update(context.Background(), func(tx store.Tx) error {
		ts, err := tx.NextTS(channel, time.Now())
		if err != nil {
			return err
		}
		m := &protocol.Message{Type: "message", Channel: channel, User: author, Text: "What a message usually says, more or less", TS: ts}
		if err := tx.InsertMessage(m, string(ts), mentions); err != nil {
			return err
		}
		return tx.Emit(&protocol.Event{
			Topic: protocol.Topic(channel), Type: "message", Class: protocol.ClassMessage, Payload: protocol.MustMarshal(m),
			Effects: []protocol.Effect{{Op: protocol.OpMessageAdded, Channel: channel, User: author, TS: ts, Latest: ts}},
		})
	})
	return err
}

// BenchmarkPost tells the durable writes a second, by the number of writers: more writers share fsyncs.
func BenchmarkPost(b *testing.B) {
	for _, writers := range []int{1, 4, 16, 64} {
		b.Run(strconv.Itoa(writers), func(b *testing.B) {
			st := openLoaded(b, loadSize{benchUsers, 200, 200, 50_000})
			var left atomic.Int64
			left.Store(int64(b.N))
			b.ResetTimer()
			var wg sync.WaitGroup
			for w := range writers {
				wg.Go(func() {
					channel, author := protocol.ChannelID(fmt.Sprintf("C%09d", w%100)), protocol.UserID(fmt.Sprintf("U%010d", w))
					for left.Add(-1) >= 0 {
						if err := post(st, channel, author, store.Mentions{}); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "posts/s")
		})
	}
}

// BenchmarkRead tells what the usual reads cost.
func BenchmarkRead(b *testing.B) {
	st := openLoaded(b, loadSize{benchUsers, 200, 200, 100_000})
	user := protocol.UserID(fmt.Sprintf("U%010d", 7))
	ids := make([]protocol.ObjectID, 100)
	for i := range ids {
		ids[i] = protocol.ObjectID(fmt.Sprintf("U%010d", i*37%benchUsers))
	}
	for name, fn := range map[string]func(r store.Reader) error{
		"Object":      func(r store.Reader) error { _, err := r.Object(ids[0]); return err },
		"Objects100":  func(r store.Reader) error { _, _, err := r.Objects(ids); return err },
		"Memberships": func(r store.Reader) error { _, err := r.Memberships(user); return err },
		"Members1000": func(r store.Reader) error { _, _, _, err := r.Members("C000000000", "", 1000); return err },
		"ListByName": func(r store.Reader) error {
			_, _, err := r.List(protocol.ListRequest{Workspace: "T0000LOAD", Kind: protocol.KindUser, Order: protocol.ByName, Limit: 1000})
			return err
		},
		"Workspaces": func(r store.Reader) error { _, err := r.Workspaces(); return err },
		"History": func(r store.Reader) error {
			_, _, err := r.History(store.HistoryQuery{Channel: "C000000000", Limit: 100})
			return err
		},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if err := st.View(context.Background(), fn); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkSearch tells what a search costs in the largest workspace: what many have is found at once, and what few or
// nobody has at the end of one walk over an index of 148,170 lines.
func BenchmarkSearch(b *testing.B) {
	st := openLoaded(b, loadSize{148_170, 100, 100, 1000})
	for _, query := range []string{"p", "person num", "14817", "148169", "load 77777 pers num", "nobody", "person nobody"} {
		for _, order := range []protocol.ListOrder{protocol.ByName, protocol.ByID} {
			b.Run(fmt.Sprintf("%s/%s", order, query), func(b *testing.B) {
				for b.Loop() {
					err := st.View(context.Background(), func(r store.Reader) error {
						_, _, err := r.List(protocol.ListRequest{Workspace: "T0000LOAD", Kind: protocol.KindUser, Order: order, Query: query, Limit: 31})
						return err
					})
					if err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkEveryone mentions everybody in a channel of everybody: it grows linearly with the channel, because everybody's
// count is a row.
func BenchmarkEveryone(b *testing.B) {
	for _, users := range []int{1000, 10_000} {
		b.Run(strconv.Itoa(users), func(b *testing.B) {
			st := openLoaded(b, loadSize{users, 3, 3, users * 2})
			for b.Loop() {
				if err := post(st, "C000000000", "U0000000000", store.Mentions{Everyone: true}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
