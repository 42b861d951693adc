// Package token makes and reads the tokens that clients carry. A token is a JWT (HS256) behind the dialect's prefix:
// xoxp- for people, xoxb- for bots, xoxc- for browsers. Verifying one needs only the key, never the store; whether it
// was revoked is for the store to say.
package token

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"flannel/protocol"
)

const (
	// MaxLength bounds a token, in bytes: ours have about 330.
	MaxLength = 4 << 10
	// KeyFile is the name of the key within the data folder.
	KeyFile = "token.key"
	// keySize is the size of HS256's hash, in bytes: a longer key adds nothing, a shorter one weakens it.
	keySize = 32
)

// prefixes lists what a token may begin with. The prefix is not signed: it only tells people what they look at.
var prefixes = []string{"xoxp-", "xoxb-", "xoxc-"}

// Claims is what a token says. Role is the role at the time of issue; the store knows the present one.
type Claims struct {
	ID         string // names the token in revocations
	User       protocol.UserID
	Workspace  protocol.WorkspaceID
	Enterprise protocol.EnterpriseID
	Role       protocol.Role
	Issued     int64 // Unix seconds
	Expires    int64 // Unix seconds, 0 for never
}

// Signer issues and verifies tokens with one key. It is safe for concurrent use.
type Signer struct {
	key    []byte
	now    func() time.Time
	parser *jwt.Parser
}

// wire is Claims as they stand in the token.
type wire struct {
	ID         string                `json:"jti"`
	User       protocol.UserID       `json:"sub"`
	Workspace  protocol.WorkspaceID  `json:"team"`
	Enterprise protocol.EnterpriseID `json:"enterprise,omitempty"`
	Role       protocol.Role         `json:"role"`
	Issued     int64                 `json:"iat"`
	Expires    int64                 `json:"exp,omitempty"`
}

// OpenKey reads <dir>/token.key and creates it, readable by the owner only, if there is none. Two processes may do so
// at once: both get the same key.
func OpenKey(dir string) (*Signer, error) {
	path := filepath.Join(dir, KeyFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := createKey(path); err != nil {
			return nil, err
		}
		text, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, fmt.Errorf("read token key: %w", err)
	}
	key, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(key) != keySize {
		return nil, fmt.Errorf("read token key %q: not %d bytes in hexadecimal", path, keySize)
	}
	return New(key, time.Now), nil
}

// createKey writes a new key beside path and links it there, so that nobody ever reads half a key and the first of two
// writers wins.
func createKey(path string) error {
	key := make([]byte, keySize)
	rand.Read(key)
	f, err := os.CreateTemp(filepath.Dir(path), KeyFile+".*") // CreateTemp makes it 0600.
	if err != nil {
		return fmt.Errorf("create token key: %w", err)
	}
	defer os.Remove(f.Name()) //nolint:errcheck // Best effort: a stray file does no harm.
	_, err = fmt.Fprintln(f, hex.EncodeToString(key))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("create token key: %w", err)
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("create token key: %w", err)
	}
	return nil
}

// New returns a signer with the key and the clock.
func New(key []byte, now func() time.Time) *Signer {
	return &Signer{
		key: key, now: now,
		// Claims are checked by Verify itself; strict decoding leaves exactly one spelling of each token.
		parser: jwt.NewParser(jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}), jwt.WithoutClaimsValidation(), jwt.WithStrictDecoding()),
	}
}

// Issue returns a token for c. It makes up an ID if c has none, and takes the present time if Issued is 0.
func (s *Signer) Issue(c Claims) (string, error) {
	if c.ID == "" {
		id := make([]byte, 12) // 96 random bits do not collide
		rand.Read(id)
		c.ID = hex.EncodeToString(id)
	}
	if c.Issued == 0 {
		c.Issued = s.now().Unix()
	}
	w := wire(c)
	if err := w.Validate(); err != nil {
		return "", fmt.Errorf("issue token: %w", err)
	}
	signed, err := jwt.NewWithClaims(jwt.SigningMethodHS256, &w).SignedString(s.key)
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	if len(signed)+len(prefixes[0]) > MaxLength {
		return "", fmt.Errorf("issue token: longer than %d bytes", MaxLength)
	}
	if c.Role == protocol.RoleBot {
		return "xoxb-" + signed, nil
	}
	return "xoxp-" + signed, nil
}

// Verify reads a token that this key signed. Its errors are *protocol.Error: token_expired for a good token whose time
// is over, invalid_auth for everything else.
func (s *Signer) Verify(tok string) (Claims, error) {
	if len(tok) > MaxLength {
		return Claims{}, &protocol.Error{Code: protocol.CodeInvalidAuth}
	}
	signed := ""
	for _, p := range prefixes {
		if rest, ok := strings.CutPrefix(tok, p); ok {
			signed = rest
		}
	}
	var w wire
	if _, err := s.parser.ParseWithClaims(signed, &w, func(*jwt.Token) (any, error) { return s.key, nil }); err != nil {
		return Claims{}, &protocol.Error{Code: protocol.CodeInvalidAuth}
	}
	if w.Validate() != nil {
		return Claims{}, &protocol.Error{Code: protocol.CodeInvalidAuth}
	}
	if w.Expires != 0 && s.now().Unix() >= w.Expires {
		return Claims{}, &protocol.Error{Code: protocol.CodeTokenExpired}
	}
	return Claims(w), nil
}

// Validate reports what is wrong with the claims; jwt calls it too.
func (w *wire) Validate() error {
	switch {
	case w.ID == "" || len(w.ID) > protocol.MaxIDLength:
		return errors.New("bad token id")
	case protocol.KindOf(protocol.ObjectID(w.User)) != protocol.KindUser:
		return fmt.Errorf("bad user %q", w.User)
	case protocol.KindOf(protocol.ObjectID(w.Workspace)) != protocol.KindWorkspace:
		return fmt.Errorf("bad workspace %q", w.Workspace)
	case w.Enterprise != "" && !protocol.ValidID(string(w.Enterprise)):
		return fmt.Errorf("bad enterprise %q", w.Enterprise)
	case w.Issued < 0 || w.Expires < 0:
		return errors.New("negative time")
	}
	return nil
}

// The rest implements jwt.Claims; nothing uses it, because Verify checks the claims itself.

// GetExpirationTime implements jwt.Claims.
func (w *wire) GetExpirationTime() (*jwt.NumericDate, error) { return nil, nil }

// GetIssuedAt implements jwt.Claims.
func (w *wire) GetIssuedAt() (*jwt.NumericDate, error) { return nil, nil }

// GetNotBefore implements jwt.Claims.
func (w *wire) GetNotBefore() (*jwt.NumericDate, error) { return nil, nil }

// GetIssuer implements jwt.Claims.
func (w *wire) GetIssuer() (string, error) { return "", nil }

// GetSubject implements jwt.Claims.
func (w *wire) GetSubject() (string, error) { return string(w.User), nil }

// GetAudience implements jwt.Claims.
func (w *wire) GetAudience() (jwt.ClaimStrings, error) { return nil, nil }
