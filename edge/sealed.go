package edge

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

const (
	// sealedPrefix begins the name of a sealed ticket; others have letters and digits only.
	sealedPrefix = "s."
	// maxSealed bounds a sealed ticket's name, in bytes: with the headers it must fit into the 8 KB of a request's beginning.
	maxSealed = 4 << 10
)

// sealed is a ticket that another node gives for this one: what the ticket says, encrypted with a secret of the region and
// bound to the node that it is for. A ticket names nobody but a token, which is looked at when the socket opens; it is
// encrypted because addresses end up in logs.
type sealed struct {
	Token  string            `json:"t"`
	Params map[string]string `json:"p,omitempty"`
	Until  int64             `json:"u"` // Unix milliseconds
}

// cipherOf derives the cipher of tickets from a secret of the region, which is used for other things too.
func cipherOf(secret []byte) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, secret, nil, "flannel socket ticket", 32)
	if err != nil {
		return nil, fmt.Errorf("derive key: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("make cipher: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// seal returns the name of a ticket for another node. ok is false if it cannot be made, or would be too long.
func (t *tickets) seal(node, token string, params map[string]string) (name string, ok bool) {
	secrets := t.region.Secrets()
	if len(secrets) == 0 {
		return "", false
	}
	aead, err := cipherOf(secrets[0])
	if err != nil {
		return "", false
	}
	plain, err := json.Marshal(sealed{Token: token, Params: kept(params), Until: t.now().Add(t.life).UnixMilli()})
	if err != nil {
		return "", false
	}
	name = sealedPrefix + base64.RawURLEncoding.EncodeToString(aead.Seal(nil, nil, plain, []byte(node)))
	return name, len(name) <= maxSealed
}

// unseal opens a sealed ticket, once. ok is false if it is not for this node, too old or used.
func (t *tickets) unseal(name string) (got ticket, ok bool) {
	box, err := base64.RawURLEncoding.Strict().DecodeString(name)
	if err != nil || len(name) > maxSealed || t.region == nil {
		return ticket{}, false
	}
	var s sealed
	for _, secret := range t.region.Secrets() {
		aead, err := cipherOf(secret)
		if err != nil {
			continue
		}
		plain, err := aead.Open(nil, nil, box, []byte(t.region.Self().Node))
		if err == nil {
			ok = json.Unmarshal(plain, &s) == nil
			break
		}
	}
	// Twice its life: the two nodes' clocks may differ by as much.
	until := time.UnixMilli(s.Until).Add(t.life)
	if now := t.now(); !ok || !now.Before(until) || now.Add(3*t.life).Before(until) {
		return ticket{}, false
	}
	// The random nonce that it begins with is its name.
	nonce := string(box[:12])
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, used := t.spent[nonce]; used || len(t.spent) >= t.max {
		return ticket{}, false
	}
	t.spent[nonce] = until
	return ticket{token: strings.Clone(s.Token), params: s.Params, until: until}, true
}
