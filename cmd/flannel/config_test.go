package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/knadh/koanf/providers/structs"
	"github.com/knadh/koanf/v2"
)

func writeConfig(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "flannel.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestConfig_LayersWinInOrder(t *testing.T) {
	path := writeConfig(t, "node:\n  edge:\n    listen: 127.0.0.1:1\n    region: file\n    host_unknown_to_nobody: 1\n")
	if _, err := loadConfig(path, nil, nil); err == nil {
		t.Fatal("an unknown key was accepted")
	}
	path = writeConfig(t, "node:\n  edge:\n    listen: 127.0.0.1:1\n    region: file\n    ping_interval: 20s\n")
	environ := []string{"FLANNEL_NODE_EDGE_REGION=env", "FLANNEL_NODE_EDGE_LISTEN=127.0.0.1:2", "PATH=/bin"}
	flags := map[string]any{"node.edge.listen": "127.0.0.1:3"}

	cfg, err := loadConfig(path, environ, flags)
	if err != nil {
		t.Fatal(err)
	}

	if e := cfg.Node.Edge; e.Listen != "127.0.0.1:3" || e.Region != "env" || e.PingInterval != 20*time.Second {
		t.Errorf("listen %q, region %q, ping interval %v", e.Listen, e.Region, e.PingInterval)
	}
}

func TestConfig_EveryKeyHasAnEnvironmentVariable(t *testing.T) {
	k := koanf.New(".")
	if err := k.Load(structs.Provider(defaultConfig(), "koanf"), nil); err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]string)
	for _, key := range k.Keys() {
		name := envName(key)
		if other, taken := seen[name]; taken {
			t.Errorf("%s stands for %s and for %s", name, other, key)
		}
		seen[name] = key
		value := fmt.Sprint(k.Get(key))
		if list, ok := k.Get(key).([]string); ok {
			value = strings.Join(list, ",")
		}
		if values, err := fromEnv([]string{name + "=" + value}, k.All()); err != nil || fmt.Sprint(values[key]) != fmt.Sprint(k.Get(key)) {
			t.Errorf("%s=%s sets %v, %v", name, value, values, err)
		}
	}
}

func TestConfig_MistakesAreNamed(t *testing.T) {
	for name, c := range map[string]struct {
		text, want string
		environ    []string
	}{
		"unknown key":          {text: "node:\n  edge:\n    lisen: x\n", want: `unknown key "node.edge.lisen"`},
		"key in a wrong place": {text: "edge:\n  listen: x\n", want: `unknown key "edge`},
		"wrong type":           {text: "node:\n  edge:\n    max_sessions: many\n", want: "max_sessions"},
		"bad duration":         {text: "node:\n  edge:\n    pong_wait: soon\n", want: "pong_wait"},
		"negative":             {text: "node:\n  edge:\n    pong_wait: -1s\n", want: "pong_wait"},
		"no YAML":              {text: "node: [", want: "flannel.yaml"},
		"level":                {text: "log:\n  level: loud\n", want: "log.level"},
		"format":               {text: "log:\n  format: xml\n", want: "log.format"},
		"short key":            {text: "backend:\n  upstream_key: short\n", want: "upstream_key"},
		"unknown variable":     {environ: []string{"FLANNEL_NODE_EDGE_LISEN=x"}, want: "FLANNEL_NODE_EDGE_LISEN"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := loadConfig(writeConfig(t, c.text), c.environ, nil); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
	if _, err := loadConfig("nowhere.yaml", nil, nil); err == nil || !strings.Contains(err.Error(), "nowhere.yaml") {
		t.Errorf("a file that is not there gives %v", err)
	}
}

func FuzzConfig(f *testing.F) {
	f.Add("node:\n  edge:\n    listen: 127.0.0.1:1\n")
	f.Add("log: {level: debug}\nbackend: [1, 2]\n")
	f.Add("node: &a\n  edge: *a\n")
	f.Fuzz(func(t *testing.T, text string) {
		cfg, err := loadConfig(writeConfig(t, text), nil, nil)
		if err == nil && cfg.Validate() != nil {
			t.Error("what was loaded is not valid")
		}
	})
}
