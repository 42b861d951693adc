package affinity

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/hashicorp/memberlist"
)

// NewKey returns a random key for the gossip, in base64: 32 bytes, for AES-256.
func NewKey() string {
	b := make([]byte, 32)
	rand.Read(b) // which never fails
	return base64.StdEncoding.EncodeToString(b)
}

// parseKeys decodes keys. Errors do not show them.
func parseKeys(texts []string) ([][]byte, error) {
	var keys [][]byte
	for i, text := range texts {
		key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
		if err != nil {
			return nil, fmt.Errorf("key %d is not base64; flannel cluster key makes one", i+1)
		}
		if memberlist.ValidateKey(key) != nil {
			return nil, fmt.Errorf("key %d has %d bytes, 16, 24 or 32 are allowed; flannel cluster key makes one", i+1, len(key))
		}
		if !slices.ContainsFunc(keys, func(k []byte) bool { return bytes.Equal(k, key) }) {
			keys = append(keys, key)
		}
	}
	if len(keys) > maxKeys {
		return nil, fmt.Errorf("%d keys are too many, %d are allowed", len(keys), maxKeys)
	}
	return keys, nil
}

// loadKeys returns all keys, the one that encrypts first: those of the file, one a line, then those of the configuration.
// Lines that are empty or begin with # are none.
func loadKeys(cfg *Config) ([][]byte, error) {
	texts := []string{}
	if cfg.KeysFile != "" {
		b, err := os.ReadFile(cfg.KeysFile)
		if err != nil {
			return nil, fmt.Errorf("read keys_file: %w", err)
		}
		for line := range strings.Lines(string(b)) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				texts = append(texts, line)
			}
		}
		if len(texts) == 0 {
			return nil, errors.New("read keys_file: there is no key in it")
		}
	}
	return parseKeys(append(texts, cfg.Keys...))
}

// install makes keys those of the ring. A new one can decrypt before it encrypts, and an old one is taken out last, so that
// nothing that is on its way is lost.
func install(ring *memberlist.Keyring, keys [][]byte) error {
	for _, k := range keys {
		if err := ring.AddKey(k); err != nil {
			return fmt.Errorf("add key: %w", err)
		}
	}
	if err := ring.UseKey(keys[0]); err != nil {
		return fmt.Errorf("use key: %w", err)
	}
	for _, old := range ring.GetKeys() {
		if !slices.ContainsFunc(keys, func(k []byte) bool { return bytes.Equal(k, old) }) {
			if err := ring.RemoveKey(old); err != nil {
				return fmt.Errorf("remove key: %w", err)
			}
		}
	}
	return nil
}
