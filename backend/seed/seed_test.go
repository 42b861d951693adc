package seed_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"path/filepath"
	"testing"

	"flannel/backend/seed"
	"flannel/backend/store"
	"flannel/backend/store/sqlite"
	"flannel/protocol"
)

func generate(t *testing.T, users int, seedValue uint64) (store.Store, seed.Result) {
	t.Helper()
	st, err := sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(t.TempDir(), "flannel.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	result, err := seed.Generate(t.Context(), st, seed.Options{Users: users, Seed: seedValue})
	if err != nil {
		t.Fatal(err)
	}
	return st, result
}

// digest stands for every object and membership of a workspace.
func digest(t *testing.T, st store.Store, w protocol.WorkspaceID) string {
	t.Helper()
	h := sha256.New()
	err := st.View(t.Context(), func(r store.Reader) error {
		for _, kind := range protocol.Kinds {
			if err := r.EachObject(w, kind, func(o *protocol.Object) error { h.Write(o.Body); return nil }); err != nil {
				return err
			}
		}
		return r.EachMembership(w, func(c protocol.ChannelID, u protocol.UserID) error {
			h.Write([]byte(c + " " + protocol.ChannelID(u)))
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func TestGenerate_SameSeedGivesSameBytes(t *testing.T) {
	a, ra := generate(t, 150, 7)
	b, rb := generate(t, 150, 7)
	c, rc := generate(t, 150, 8)

	da, db, dc := digest(t, a, ra.Workspace.ID), digest(t, b, rb.Workspace.ID), digest(t, c, rc.Workspace.ID)

	if da != db {
		t.Error("the same seed gave two different workspaces")
	}
	if da == dc {
		t.Error("two seeds gave the same workspace")
	}
}

func TestGenerate_EveryPresetHasTheRoles(t *testing.T) {
	st, result := generate(t, 12, 1)
	roles := make(map[protocol.Role]int)
	people := 0
	err := st.View(t.Context(), func(r store.Reader) error {
		return r.EachObject(result.Workspace.ID, protocol.KindUser, func(o *protocol.Object) error {
			var u protocol.User
			if err := json.Unmarshal(o.Body, &u); err != nil {
				return err
			}
			roles[u.Role()]++
			if !u.IsBot {
				people++
			}
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}

	if people != 12 || roles[protocol.RoleMember] < 10 || roles[protocol.RoleAdmin] < 1 || roles[protocol.RoleGuest] < 1 || roles[protocol.RoleBot] < 1 {
		t.Errorf("%d people with roles %v; the ready line needs ten members, an admin, a guest and a bot", people, roles)
	}
}

func TestGenerate_BusyOneIsInExactlySoManyConversations(t *testing.T) {
	st, result := generate(t, 530, 1)
	var memberships []protocol.Membership
	err := st.View(t.Context(), func(r store.Reader) (err error) {
		memberships, err = r.Memberships(result.Busy)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}

	kinds := make(map[protocol.ChannelType]int)
	for _, m := range memberships {
		kinds[m.Type]++
	}
	if len(memberships) != seed.BusyChannels {
		t.Errorf("the busy one is in %d conversations (%v), want %d", len(memberships), kinds, seed.BusyChannels)
	}
}

// The published figures counted users and the public channels with their member lists. "The same order of size" means
// between half and 2.5 times. The large presets are measured by flannel bench boot.
func TestGenerate_SmallPresetsHaveThePublishedSize(t *testing.T) {
	for _, p := range seed.Presets[:3] {
		st, result := generate(t, p.Users, 1)
		users, channels := 0, 0
		err := st.View(t.Context(), func(r store.Reader) error {
			w := result.Workspace.ID
			if err := r.EachObject(w, protocol.KindUser, func(o *protocol.Object) error { users += len(o.Body) + 1; return nil }); err != nil {
				return err
			}
			public := make(map[protocol.ChannelID]bool)
			if err := r.EachObject(w, protocol.KindChannel, func(o *protocol.Object) error {
				if len(o.Visibility.Workspaces) > 0 {
					public[protocol.ChannelID(o.ID)] = true
					channels += len(o.Body) + 14
				}
				return nil
			}); err != nil {
				return err
			}
			return r.EachMembership(w, func(c protocol.ChannelID, _ protocol.UserID) error {
				if public[c] {
					channels += 14
				}
				return nil
			})
		})
		if err != nil {
			t.Fatal(err)
		}

		t.Logf("%d users: users %d of %d published, channels %d of %d", p.Users, users, p.UsersBytes, channels, p.ChannelsBytes)
		for what, size := range map[string][2]int{"users": {users, p.UsersBytes}, "channels": {channels, p.ChannelsBytes}} {
			if size[0] < size[1]/2 || size[0] > size[1]*5/2 {
				t.Errorf("%d users: %s take %d bytes, published were %d", p.Users, what, size[0], size[1])
			}
		}
	}
}

// BenchmarkGenerate_Largest makes the largest preset. Required on 2 cores: under 2 minutes.
func BenchmarkGenerate_Largest(b *testing.B) {
	for b.Loop() {
		st, err := sqlite.Open(b.Context(), sqlite.Options{Path: filepath.Join(b.TempDir(), "flannel.db")})
		if err != nil {
			b.Fatal(err)
		}
		result, err := seed.Generate(b.Context(), st, seed.Options{Users: 148_170, Seed: 1})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(result.Memberships), "memberships")
		b.ReportMetric(float64(result.Channels), "channels")
		if err := st.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
