package affinity

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestConfig_Mistakes(t *testing.T) {
	key := NewKey()
	for want, edit := range map[string]func(*Config){
		"":                                       func(*Config) {},
		"  ":                                     func(c *Config) { c.Listen = "127.0.0.1:7946" },
		"   ":                                    func(c *Config) { c.Listen, c.Keys = "0.0.0.0:7946", []string{key} },
		"    ":                                   func(c *Config) { c.Listen, c.KeysFile = ":7946", "keys" },
		"     ":                                  func(c *Config) { c.Seeds = []string{"10.0.0.1", "n1.example.com", "n1:1", "::1", "[::1]:7946"} },
		"keys: are required where gossip leaves": func(c *Config) { c.Listen = "10.0.0.1:7946" },
		"keys: are required where gossip leaves th": func(c *Config) { c.Listen = ":7946" },
		`listen: is "7946"; write IP:port`:          func(c *Config) { c.Listen = "7946" },
		"write an IP address, not a name":           func(c *Config) { c.Listen = "n1.example.com:7946" },
		"the port is a number":                      func(c *Config) { c.Listen = "127.0.0.1:gossip" },
		"advertise: is \"n1\"":                      func(c *Config) { c.Advertise = "n1" },
		"others cannot reach 0.0.0.0:1":             func(c *Config) { c.Advertise = "0.0.0.0:1" },
		"name: is empty":                            func(c *Config) { c.Name = "" },
		"node: is \"a b\"":                          func(c *Config) { c.Node = "a b" },
		"zone: is":                                  func(c *Config) { c.Zone = strings.Repeat("z", 41) },
		"public_url: \"n1.example.com\" is not":     func(c *Config) { c.PublicURL = "n1.example.com" },
		"public_url: \"https://a/b\" is not":        func(c *Config) { c.PublicURL = "https://a/b" },
		"seeds: \"http://a\" is none":               func(c *Config) { c.Seeds = []string{"http://a"} },
		"seeds: one is empty":                       func(c *Config) { c.Seeds = []string{""} },
		"seeds: \"a:0\" is none":                    func(c *Config) { c.Seeds = []string{"a:0"} },
		"seeds: 65 are too many":                    func(c *Config) { c.Seeds = strings.Split(strings.Repeat("a,", 64)+"a", ",") },
		"key 2 is not base64":                       func(c *Config) { c.Keys = []string{key, "secret!"} },
		"key 1 has 3 bytes":                         func(c *Config) { c.Keys = []string{"YWJj"} },
		"hold_down: must":                           func(c *Config) { c.HoldDown = -1 },
		"announce_every: must":                      func(c *Config) { c.AnnounceEvery = 0 },
		"join_every: must":                          func(c *Config) { c.JoinEvery = time.Microsecond },
		"spread_at: must":                           func(c *Config) { c.SpreadAt = 0 },
		"spread_max: must be a power of two":        func(c *Config) { c.SpreadMax = 3 },
	} {
		c := Default()
		edit(&c)
		err := c.Validate()
		if want = strings.TrimSpace(want); want == "" {
			if err != nil {
				t.Errorf("%+v: %v", c, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the error shows a key: %v", err)
		}
	}
}

func TestLoadKeys(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys")
	a, b := NewKey(), NewKey()
	if err := os.WriteFile(file, []byte("# one\n\n"+a+"\n  "+b+"\n"+a+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	keys, err := loadKeys(&Config{KeysFile: file, Keys: []string{b}})
	if err != nil || len(keys) != 2 || len(keys[0]) != 32 {
		t.Errorf("%d keys, %v", len(keys), err)
	}
	if err := os.WriteFile(file, []byte("# none\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{file, file + ".not"} {
		if keys, err := loadKeys(&Config{KeysFile: name, Keys: []string{b}}); err == nil {
			t.Errorf("%d keys", len(keys))
		}
	}
}
