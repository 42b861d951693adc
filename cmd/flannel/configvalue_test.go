package main

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/v2"
)

// keys returns every key of the configuration with its default.
func keys(t testing.TB) map[string]any {
	t.Helper()
	return flat(defaultConfig())
}

// other returns a sound value that is not the default.
func other(t *testing.T, key string, value any) any {
	t.Helper()
	special := map[string]any{"log.level": "warn", "log.format": "text", "node.upstream.url": "https://chat.example.com", "node.edge.region": "elsewhere", "backend.data": "elsewhere", "node.memory_limit": 1 << 30}
	if v, ok := special[key]; ok {
		return v
	}
	// Some keys take only certain values.
	switch key {
	case "node.cluster.public_url":
		return "https://n1.example.com"
	case "node.cluster.seeds":
		return []string{"n1.example.com", "10.0.0.2:7946"}
	case "node.cluster.keys":
		return []string{"MDEyMzQ1Njc4OWFiY2RlZg==", "ZmVkY2JhOTg3NjU0MzIxMA=="}
	case "node.cluster.spread_max":
		return 32
	}
	switch v := value.(type) {
	case string:
		if strings.HasSuffix(key, "key") {
			return "0123456789abcdef"
		}
		return "127.0.0.1:7"
	case bool:
		return !v
	case int:
		return v + 1
	case int64:
		return v + 1
	case float64:
		return v / 2
	case time.Duration:
		return v + time.Millisecond
	case []string:
		return []string{"https://a.example.com", "https://b.example.com"}
	}
	t.Fatalf("%s is a %T: teach convert and this test", key, value)
	return nil
}

// TestConfig_EveryKeyCanBeSetByEveryLayer sets one key at a time, and looks that it is the only one that changes.
func TestConfig_EveryKeyCanBeSetByEveryLayer(t *testing.T) {
	defaults := keys(t)
	for key, value := range defaults {
		want := other(t, key, value)
		text := fmt.Sprint(want)
		if list, ok := want.([]string); ok {
			text = strings.Join(list, ",")
		}
		yamlText := text
		if list, ok := want.([]string); ok {
			yamlText = "[" + strings.Join(list, ", ") + "]"
		}
		parts := strings.Split(key, ".")
		var file strings.Builder
		for i, part := range parts {
			fmt.Fprintf(&file, "%s%s:", strings.Repeat("  ", i), part)
			if i < len(parts)-1 {
				file.WriteByte('\n')
			}
		}
		quoted := " " + yamlText + "\n"
		if _, isString := want.(string); isString {
			quoted = fmt.Sprintf(" %q\n", yamlText)
		}
		file.WriteString(quoted)
		for name, load := range map[string]func() (Config, error){
			"file":        func() (Config, error) { return layer("flannel.yaml", []byte(file.String()), nil, nil) },
			"environment": func() (Config, error) { return layer("", nil, []string{envName(key) + "=" + text}, nil) },
			"flag":        func() (Config, error) { return layer("", nil, nil, map[string]any{key: text}) },
		} {
			cfg, err := load()
			if err != nil {
				t.Errorf("%s by %s: %v", key, name, err)
				continue
			}
			have := flat(cfg)
			for k, v := range defaults {
				if k == key {
					v = want
				}
				if !reflect.DeepEqual(have[k], v) {
					t.Errorf("%s by %s: %s is %v, want %v", key, name, k, have[k], v)
				}
			}
		}
	}
}

func TestConfig_ValuesAreReadStrictly(t *testing.T) {
	for text, want := range map[string]string{
		"node: {edge: {ping_interval: 25}}":                   `node.edge.ping_interval: is 25; write a time with its unit`,
		"node: {edge: {ping_interval: [1s]}}":                 `node.edge.ping_interval: is a list`,
		"node: {edge: {ping_interval: -25s}}":                 `node.edge.ping_interval: must be above 0`,
		"node: {edge: {max_sessions: 1.5}}":                   `node.edge.max_sessions: is 1.5; write a whole number`,
		"node: {edge: {max_sessions: many}}":                  `node.edge.max_sessions: is "many"`,
		"node: {cache: {bytes: 99999999999999999999}}":        `node.cache.bytes: is 1e+20`,
		"node: {cache: {bytes: -1}}":                          `node.cache.bytes must be above 0`,
		"node: {edge: {rate_limits: maybe}}":                  `node.edge.rate_limits: is "maybe"; write true or false`,
		"node: {edge: {origins: [1]}}":                        `node.edge.origins: is a list; write a list of texts`,
		"node: {edge: {listen: {a: 1}}}":                      `node.edge.listen: is a section; write a text`,
		"node: {upstream: {retry_budget: .nan}}":              `node.upstream.retry_budget: is NaN`,
		"node: {upstream: {retry_budget: 2}}":                 `node.upstream.retry_budget: must be between 0 and 1`,
		"node: {upstream: {url: ftp://x}}":                    `node.upstream.url: "ftp://x" is neither http nor https`,
		"node: {query: {max_ids: 0}}":                         `node.query.max_ids`,
		"backend: {hub: {replay: -5m}}":                       `backend.hub.replay is -5m0s`,
		"backend: {data: 3}":                                  `backend.data: is 3; write a text`,
		"node: 3":                                             `node is 3; write a section`,
		"node: {1: 2}":                                        `node is a section`,
		"node.edge.listen: x":                                 `unknown key "node.edge.listen": write sections, not dots`,
		"nod: {}":                                             `unknown key "nod" (did you mean "node"?)`,
		"node: {egde: {}}":                                    `unknown key "node.egde" (did you mean "node.edge"?)`,
		"node: {edge: {lissen: x}}":                           `(did you mean "node.edge.listen"?)`,
		"backend: {listen: 127.0.0.1:1, listen: 127.0.0.1:2}": `already defined`,
		"- a":                        `is not YAML as flannel.yaml has it`,
		"\x00\x01":                   `is not YAML as flannel.yaml has it`,
		"a: &a [*a]":                 `is not YAML as flannel.yaml has it`,
		strings.Repeat("x", 200_000): `is not YAML as flannel.yaml has it`,
	} {
		_, err := layer("my.yaml", []byte(text), nil, nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80s: error %.300v, want %q in it", text, err, want)
		}
	}
	for _, text := range []string{"", "\n\n", "# nothing\n", "node:\n", "node: {edge: {listen: }}\n", "node: {upstream: {retry_budget: 1}}"} {
		if _, err := layer("my.yaml", []byte(text), nil, nil); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// All mistakes are told at once: who fixes one after the other restarts a server each time.
func TestConfig_AllMistakesAtOnce(t *testing.T) {
	_, err := layer("my.yaml", []byte("node: {edge: {lisen: x, max_calls: y}}\nlog: {levl: z}\n"),
		[]string{"FLANNEL_LOG_FORMT=1", "FLANNEL_NODE_EDGE_MAX_CALLS=y", "FLANNELS=any"}, map[string]any{"node.edge.max_tickets": "z"})
	if err == nil {
		t.Fatal("no error")
	}
	lines := strings.Split(err.Error(), "\n")
	for _, want := range []string{"node.edge.lisen", "my.yaml: node.edge.max_calls", "log.levl", "FLANNEL_LOG_FORMT", "FLANNEL_NODE_EDGE_MAX_CALLS: is", "node.edge.max_tickets"} {
		if !slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, want) }) {
			t.Errorf("%q is not told in\n%v", want, err)
		}
	}

	_, err = layer("my.yaml", []byte("node: {edge: {max_calls: 0, max_sessions: 0}, upstream: {attempts: 0}}\n"), nil, nil)
	if err == nil || !slices.IsSorted(strings.Split(err.Error(), "\n")) || strings.Count(err.Error(), "node.") != 3 {
		t.Errorf("three keys are not told in order: %v", err)
	}
}

func TestConfig_SuggestionsAreNear(t *testing.T) {
	known := keys(t)
	for _, key := range slices.Sorted(maps.Keys(known)) {
		typo := key[:len(key)-2] + key[len(key)-1:] // the last letter but one is left out
		if got := suggestion(typo, known); known[typo] == nil && !strings.Contains(got, "did you mean") {
			t.Errorf("nothing is suggested for %s", typo)
		}
	}
	if got := suggestion("something.else.entirely", known); got != "" {
		t.Errorf("far away: %s", got)
	}
}

// FuzzConfigEnvironment: any text in any variable is either the value of its key or an error that names the variable.
func FuzzConfigEnvironment(f *testing.F) {
	known := keys(f)
	names := slices.Sorted(maps.Keys(known))
	for i, text := range []string{"", "0", "-1", "1h", "true", "a,b", "1e9", "NaN", "\xff", " 127.0.0.1:80 "} {
		f.Add(i, text)
	}
	f.Fuzz(func(t *testing.T, i int, text string) {
		key := names[uint(i)%uint(len(names))]
		values, err := fromEnv([]string{envName(key) + "=" + text}, known)
		if err != nil {
			if !strings.Contains(err.Error(), envName(key)) {
				t.Errorf("the error does not name the variable: %v", err)
			}
			return
		}
		k := koanf.New(".")
		if err := k.Load(confmap.Provider(values, "."), nil); err != nil {
			t.Errorf("%s=%q: %v", key, text, err)
		}
		if reflect.TypeOf(values[key]) != reflect.TypeOf(known[key]) && !strings.HasSuffix(key, "cache.bytes") {
			t.Errorf("%s=%q gives a %T", key, text, values[key])
		}
	})
}
