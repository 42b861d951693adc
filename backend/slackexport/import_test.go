package slackexport_test

import (
	"archive/zip"
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"flannel/backend/slackexport"
	"flannel/backend/store"
	"flannel/backend/store/sqlite"
	"flannel/protocol"
)

const acme = "testdata/acme"

func openStore(t *testing.T) store.Store {
	t.Helper()
	st, err := sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(t.TempDir(), "flannel.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return st
}

// zipped packs a folder, under a root folder if one is given, with extra entries.
func zipped(t *testing.T, folder, root string, extra map[string]string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "export.zip")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	z := zip.NewWriter(f)
	add := func(name string, body io.Reader) {
		w, err := z.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(w, body); err != nil {
			t.Fatal(err)
		}
	}
	err = filepath.WalkDir(folder, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(folder, p)
		if err != nil {
			return err
		}
		body, err := os.Open(p)
		if err != nil {
			return err
		}
		defer body.Close()
		add(filepath.ToSlash(filepath.Join(root, rel)), body)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, body := range extra {
		add(name, strings.NewReader(body))
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestImport_FolderAndZipGiveTheSame(t *testing.T) {
	for name, path := range map[string]string{"folder": acme, "zip": zipped(t, acme, "", nil), "zip with a root folder": zipped(t, acme, "Acme Slack export", nil)} {
		t.Run(name, func(t *testing.T) {
			st := openStore(t)

			s, err := slackexport.Import(t.Context(), st, path, slackexport.Options{})
			if err != nil {
				t.Fatal(err)
			}

			want := slackexport.Summary{
				Workspace: "T0ACME0000", Users: 7, Bots: 2, Channels: 2, Private: 1, Groups: 1, Direct: 1, Messages: 12, Replies: 1, Reactions: 2, Pins: 1,
			}
			got := *s
			got.Skipped, got.Unchanged = nil, 0
			if !equal(got, want) {
				t.Errorf("summary\n got %+v\nwant %+v", got, want)
			}
			var files []string
			for _, k := range s.Skipped {
				files = append(files, k.File)
			}
			slices.Sort(files)
			wantFiles := []string{"dms.json, D0CROWD000", "general/2023-11-14.json, element 7", "general/2023-11-15.json", "users.json, element 5", "users.json, element 6"}
			if !slices.Equal(files, wantFiles) {
				t.Errorf("skipped %q, want %q", files, wantFiles)
			}
			checkAcme(t, st)
		})
	}
}

func equal(a, b slackexport.Summary) bool {
	a.Skipped, b.Skipped = nil, nil
	return a.Workspace == b.Workspace && a.Users == b.Users && a.Bots == b.Bots && a.Channels == b.Channels && a.Private == b.Private &&
		a.Groups == b.Groups && a.Direct == b.Direct && a.Messages == b.Messages && a.Replies == b.Replies && a.Reactions == b.Reactions && a.Pins == b.Pins
}

func checkAcme(t *testing.T, st store.Store) {
	t.Helper()
	err := st.View(t.Context(), func(r store.Reader) error {
		history, more, err := r.History(store.HistoryQuery{Channel: "C0GENERAL0", Limit: 100})
		if err != nil {
			return err
		}
		if len(history) != 7 || more {
			t.Errorf("general has %d messages (more %v), want 7 without the reply", len(history), more)
		}
		thread, _, err := r.Replies("1700000100.000100", store.HistoryQuery{Channel: "C0GENERAL0", Limit: 100})
		if err != nil {
			return err
		}
		if len(thread) != 2 || thread[0].ReplyCount != 1 || len(thread[0].Reactions) != 1 || thread[0].Reactions[0].Count != 2 {
			t.Errorf("thread is %+v", thread)
		}
		edited, err := r.Message("C0GENERAL0", "1700000200.000300")
		if err != nil {
			return err
		}
		if edited.Edited == nil || edited.Edited.User != "U0BO000000" {
			t.Errorf("the edit is lost: %+v", edited)
		}
		huddle, err := r.Message("C0GENERAL0", "1700000450.000600")
		if err != nil {
			return err
		}
		if !strings.Contains(string(protocol.MustMarshal(huddle)), "R0ROOM0000") {
			t.Errorf("the unknown subtype lost its fields: %s", protocol.MustMarshal(huddle))
		}
		file, err := r.Message("C0GENERAL0", "1700000400.000500")
		if err != nil {
			return err
		}
		if !strings.Contains(string(file.Files), "plan.pdf") {
			t.Errorf("the file's metadata is lost: %s", file.Files)
		}
		m, err := r.Membership("C0GENERAL0", "U0BO000000")
		if err != nil {
			return err
		}
		if m.LastRead != "1700200000.000100" || m.MentionCount != 0 {
			t.Errorf("imported history is unread: %+v", m)
		}
		if _, err := r.Membership("C0SECRET00", "U0BO000000"); err == nil {
			t.Error("bo is in the secret channel")
		}
		direct, err := r.Conversation([]protocol.UserID{"U0ANA00000", "U0BO000000"})
		if err != nil || direct != "D0ANABO000" {
			t.Errorf("direct message is %q, %v", direct, err)
		}
		left, err := r.Object("U0LEFT0000")
		if err != nil || !strings.Contains(string(left.Body), `"deleted":true`) {
			t.Errorf("the author who is not in users.json is %s, %v", left.Body, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestImport_AgainChangesNothing(t *testing.T) {
	st := openStore(t)
	if _, err := slackexport.Import(t.Context(), st, acme, slackexport.Options{}); err != nil {
		t.Fatal(err)
	}
	before := dump(t, st)

	s, err := slackexport.Import(t.Context(), st, zipped(t, acme, "", nil), slackexport.Options{})
	if err != nil {
		t.Fatal(err)
	}

	if n := s.Users + s.Bots + s.Channels + s.Private + s.Groups + s.Direct + s.Messages + s.Reactions + s.Pins; n != 0 {
		t.Errorf("the second import brought %d new things: %+v", n, s)
	}
	if after := dump(t, st); after != before {
		t.Errorf("the store changed:\n%s\nwas\n%s", after, before)
	}
}

// dump writes down everything that an import may touch.
func dump(t *testing.T, st store.Store) string {
	t.Helper()
	var b strings.Builder
	err := st.View(t.Context(), func(r store.Reader) error {
		workspaces, err := r.Workspaces()
		if err != nil {
			return err
		}
		for _, w := range workspaces {
			for _, kind := range protocol.Kinds {
				err := r.EachObject(w.ID, kind, func(o *protocol.Object) error {
					b.Write(o.Body)
					b.WriteByte('\n')
					if kind != protocol.KindChannel {
						return nil
					}
					history, _, err := r.History(store.HistoryQuery{Channel: protocol.ChannelID(o.ID), Limit: 1000})
					b.Write(protocol.MustMarshal(history))
					return err
				})
				if err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestImport_HostileArchives(t *testing.T) {
	bomb := strings.Repeat(" ", 8<<20)
	for _, tc := range []struct {
		name, path, want string
		skipped          string
	}{
		{"path traversal", zipped(t, acme, "", map[string]string{"../../etc/passwd": "root"}), "", "../../etc/passwd"},
		{"absolute path", zipped(t, acme, "", map[string]string{"/etc/passwd": "root"}), "", "/etc/passwd"},
		{"zip bomb", zipped(t, acme, "", map[string]string{"old-ovens/2023-11-14.json": bomb}), "", "old-ovens/2023-11-14.json"},
		{"no export", zipped(t, "testdata/acme/general", "", nil), "no Slack export", ""},
		{"no zip", filepath.Join(acme, "users.json"), "zip", ""},
		{"missing", "testdata/nowhere", "no such file", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, err := slackexport.Import(t.Context(), openStore(t), tc.path, slackexport.Options{})
			if tc.want != "" {
				if err == nil || !strings.Contains(err.Error(), tc.want) {
					t.Fatalf("error %v, want one with %q", err, tc.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(s.Skipped, func(k slackexport.Skipped) bool { return k.File == tc.skipped }) {
				t.Errorf("%q is not reported: %+v", tc.skipped, s.Skipped)
			}
			if s.Messages != 12 {
				t.Errorf("%d messages imported, want the 12 that are sound", s.Messages)
			}
		})
	}
}

func TestImport_LinksOutOfTheFolderAreNotFollowed(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(acme)); err != nil {
		t.Fatal(err)
	}
	outside := filepath.Join(t.TempDir(), "secret.json")
	if err := os.WriteFile(outside, []byte(`[{"type":"message","user":"U0BO000000","text":"stolen","ts":"1700000800.000100"}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "general", "2023-11-17.json")); err != nil {
		t.Fatal(err)
	}

	s, err := slackexport.Import(t.Context(), openStore(t), dir, slackexport.Options{})
	if err != nil {
		t.Fatal(err)
	}

	if s.Messages != 12 {
		t.Errorf("%d messages imported, want 12", s.Messages)
	}
}

func TestImport_CanceledImportLeavesNothing(t *testing.T) {
	st := openStore(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()

	if _, err := slackexport.Import(ctx, st, acme, slackexport.Options{}); err == nil {
		t.Fatal("a canceled import succeeded")
	}

	if got := dump(t, st); got != "" {
		t.Errorf("the store holds %s", got)
	}
}

func FuzzImport(f *testing.F) {
	for _, name := range []string{"users.json", "channels.json", "dms.json", "general/2023-11-14.json"} {
		body, err := os.ReadFile(filepath.Join(acme, name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body, body)
	}
	f.Fuzz(func(t *testing.T, index, day []byte) {
		dir := t.TempDir()
		for _, name := range []string{"users.json", "channels.json", "groups.json", "mpims.json", "dms.json"} {
			if err := os.WriteFile(filepath.Join(dir, name), index, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Mkdir(filepath.Join(dir, "general"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "general", "2023-11-14.json"), day, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := slackexport.Import(t.Context(), openStore(t), dir, slackexport.Options{}); err != nil {
			t.Errorf("import failed as a whole: %v", err)
		}
	})
}
