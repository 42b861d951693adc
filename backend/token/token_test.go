package token

import (
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"flannel/protocol"
)

var (
	testKey    = []byte("0123456789abcdef0123456789abcdef")
	testTime   = time.Unix(1_800_000_000, 0)
	testClaims = Claims{
		ID: "t1", User: "U0001", Workspace: "T0001", Enterprise: "E0001", Role: protocol.RoleMember,
		Issued: 1_700_000_000, Expires: 1_900_000_000,
	}
)

func testSigner() *Signer { return New(testKey, func() time.Time { return testTime }) }

func mustIssue(tb testing.TB, s *Signer, c Claims) string {
	tb.Helper()
	tok, err := s.Issue(c)
	if err != nil {
		tb.Fatal(err)
	}
	return tok
}

func TestSigner_RoundTrip(t *testing.T) {
	s := testSigner()

	got, err := s.Verify(mustIssue(t, s, testClaims))

	if err != nil || got != testClaims {
		t.Fatalf("Verify = %+v, %v; want %+v", got, err, testClaims)
	}
}

func TestSigner_IssueFillsIn(t *testing.T) {
	s := testSigner()
	bot := mustIssue(t, s, Claims{User: "U0001", Workspace: "T0001", Role: protocol.RoleBot})
	person := mustIssue(t, s, Claims{User: "U0001", Workspace: "T0001", Role: protocol.RoleGuest})

	a, errA := s.Verify(bot)
	b, errB := s.Verify(person)

	if errA != nil || errB != nil || a.ID == "" || a.ID == b.ID || a.Issued != testTime.Unix() || a.Expires != 0 {
		t.Errorf("claims %+v %v, %+v %v", a, errA, b, errB)
	}
	if !strings.HasPrefix(bot, "xoxb-") || !strings.HasPrefix(person, "xoxp-") {
		t.Errorf("prefixes: %s %s", bot, person)
	}
	if _, err := s.Verify("xoxc-" + strings.TrimPrefix(person, "xoxp-")); err != nil {
		t.Errorf("a browser's prefix: %v", err)
	}
}

func TestSigner_IssueRefuses(t *testing.T) {
	s := testSigner()
	for name, c := range map[string]Claims{
		"no user":      {Workspace: "T1"},
		"no workspace": {User: "U1"},
		"a channel":    {User: "C1", Workspace: "T1"},
		"bad org":      {User: "U1", Workspace: "T1", Enterprise: "e/1"},
		"long id":      {ID: strings.Repeat("x", 200), User: "U1", Workspace: "T1"},
		"past":         {User: "U1", Workspace: "T1", Expires: -1},
	} {
		if tok, err := s.Issue(c); err == nil {
			t.Errorf("%s: issued %s", name, tok)
		}
	}
}

func TestSigner_VerifyRefuses(t *testing.T) {
	s := testSigner()
	good := mustIssue(t, s, testClaims)
	foreign := mustIssue(t, New([]byte("another key of thirty-two bytes.."), s.now), testClaims)
	old := testClaims
	old.Expires = testTime.Unix()
	none := "xoxp-" + base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"JWT"}`)) + "." + strings.Split(good, ".")[1] + "."

	for name, c := range map[string]struct {
		token string
		want  protocol.Code
	}{
		"empty":           {"", protocol.CodeInvalidAuth},
		"prefix alone":    {"xoxp-", protocol.CodeInvalidAuth},
		"no prefix":       {strings.TrimPrefix(good, "xoxp-"), protocol.CodeInvalidAuth},
		"unknown prefix":  {"xoxz" + good[4:], protocol.CodeInvalidAuth},
		"truncated":       {good[:len(good)-1], protocol.CodeInvalidAuth},
		"half":            {good[:len(good)/2], protocol.CodeInvalidAuth},
		"longer":          {good + "A", protocol.CodeInvalidAuth},
		"foreign key":     {foreign, protocol.CodeInvalidAuth},
		"no algorithm":    {none, protocol.CodeInvalidAuth},
		"over the length": {"xoxp-" + strings.Repeat("A", MaxLength), protocol.CodeInvalidAuth},
		"expired":         {mustIssue(t, s, old), protocol.CodeTokenExpired},
	} {
		_, err := s.Verify(c.token)
		if !errors.Is(err, &protocol.Error{Code: c.want}) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}

// Every byte of a token counts, the last ones of a base64 group too.
func TestSigner_EveryByteCounts(t *testing.T) {
	s := testSigner()
	good := mustIssue(t, s, testClaims)
	for i := len("xoxp-"); i < len(good); i++ {
		for _, c := range []byte("AB_.=") {
			if good[i] == c {
				continue
			}
			bad := good[:i] + string(c) + good[i+1:]
			if _, err := s.Verify(bad); err == nil {
				t.Fatalf("byte %d may be %q", i, c)
			}
		}
	}
}

func TestOpenKey(t *testing.T) {
	dir := t.TempDir()
	signers := make([]*Signer, 8)
	var wg sync.WaitGroup
	for i := range signers {
		wg.Go(func() {
			s, err := OpenKey(dir)
			if err != nil {
				t.Error(err)
			}
			signers[i] = s
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}

	tok := mustIssue(t, signers[0], Claims{User: "U1", Workspace: "T1"})

	for i, s := range signers {
		if _, err := s.Verify(tok); err != nil {
			t.Errorf("signer %d: %v", i, err)
		}
	}
	info, err := os.Stat(filepath.Join(dir, KeyFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}

func TestOpenKey_Damaged(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, KeyFile), []byte("abcd\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenKey(dir); err == nil || !strings.Contains(err.Error(), KeyFile) {
		t.Errorf("a damaged key opened: %v", err)
	}
	if _, err := OpenKey(filepath.Join(dir, "none")); err == nil {
		t.Error("a folder that is not there opened")
	}
}

func FuzzVerify(f *testing.F) {
	s := testSigner()
	good := mustIssue(f, s, testClaims)
	f.Add(good)
	f.Add(good[:len(good)-3])
	f.Add("xoxp-eyJhbGciOiJub25lIn0.e30.")
	f.Add("xoxb-..")
	f.Add("")
	f.Fuzz(func(t *testing.T, tok string) {
		c, err := s.Verify(tok)
		if err != nil {
			if e := protocol.AsError(err); e.Code != protocol.CodeInvalidAuth && e.Code != protocol.CodeTokenExpired {
				t.Fatalf("error %v", err)
			}
			return
		}
		if tok[4:] != good[4:] {
			t.Fatalf("accepted what was never issued: %+v", c)
		}
	})
}
