package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/providers/structs"
	"github.com/knadh/koanf/v2"

	"flannel/backend"
	"flannel/node"
)

// Config is everything that flannel.yaml says. The documentation of a key is on its field and, for readers, in
// flannel.yaml, which is complete and equals the defaults.
type Config struct {
	Log     LogConfig      `koanf:"log"`
	Node    node.Config    `koanf:"node"`
	Backend backend.Config `koanf:"backend"`
}

// LogConfig is the logger's.
type LogConfig struct {
	// Level is debug, info, warn or error.
	Level string `koanf:"level"`
	// Format is text, json, or auto: text on a terminal, json elsewhere.
	Format string `koanf:"format"`
}

func defaultConfig() Config {
	return Config{Log: LogConfig{Level: "info", Format: "auto"}, Node: node.Default(), Backend: backend.Default()}
}

// Validate tells every mistake at once, a line each that begins with the key. A node's and a backend's parts are checked
// again where they are built; a node without a service key is sound here, because flannel dev and flannel bench get
// theirs from the backend beside it.
func (c *Config) Validate() error {
	var errs []error
	if _, err := parseLevel(c.Log.Level); err != nil {
		errs = append(errs, err)
	}
	if !slices.Contains([]string{"auto", "text", "json"}, c.Log.Format) {
		errs = append(errs, fmt.Errorf("log.format is %q; choose auto, text or json", c.Log.Format))
	}
	checked := c.Node
	if checked.Upstream.Key == "" {
		checked.Upstream.Key = "not checked here"
	}
	for _, part := range []struct {
		name string
		err  error
	}{{"node", checked.Validate()}, {"backend", c.Backend.Validate()}} {
		for _, line := range withKeys(part.name, part.err) {
			errs = append(errs, errors.New(line))
		}
	}
	return errors.Join(errs...)
}

// withKeys spells out the keys that the parts of a configuration, which do not know where they stand, complain about:
// "edge: listen: is empty" in the part node becomes "node.edge.listen: is empty". Sorted.
func withKeys(part string, err error) []string {
	if err == nil {
		return nil
	}
	var lines []string
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range many.Unwrap() {
			lines = append(lines, withKeys(part, e)...)
		}
		slices.Sort(lines)
		return lines
	}
	text := err.Error()
	if inner := errors.Unwrap(err); inner != nil {
		if name, ok := strings.CutSuffix(text, ": "+inner.Error()); ok && !strings.ContainsAny(name, " :") {
			return withKeys(part+"."+name, inner)
		}
	}
	text = strings.TrimPrefix(text, part[strings.LastIndex(part, ".")+1:]+": ") // Some parts do know their name.
	return []string{part + "." + text}
}

// envPrefix begins the environment variable of every key: node.edge.listen is FLANNEL_NODE_EDGE_LISTEN.
const envPrefix = "FLANNEL_"

func envName(key string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// knownKeys are the keys of the configuration.
func knownKeys() map[string]bool {
	known := make(map[string]bool)
	for key := range flat(defaultConfig()) {
		known[key] = true
	}
	return known
}

// flat returns a configuration by key.
func flat(cfg Config) map[string]any {
	k := koanf.New(".")
	if err := k.Load(structs.Provider(cfg, "koanf"), nil); err != nil { // As ever: it is a struct.
		return nil
	}
	return k.All()
}

// loadConfig layers the defaults, the file (none if path is empty), the environment and the flags, and validates the
// sum. Unknown keys and values of the wrong type are errors wherever they come from.
func loadConfig(path string, environ []string, flags map[string]any) (Config, error) {
	var text []byte
	if path != "" {
		var err error
		if text, err = os.ReadFile(path); err != nil {
			return Config{}, fmt.Errorf("read configuration: %w; say where it is with --config FILE", err)
		}
	}
	return layer(path, text, environ, flags)
}

// layer is loadConfig with the file's text in hand.
func layer(path string, text []byte, environ []string, flags map[string]any) (Config, error) {
	k := koanf.New(".")
	if err := k.Load(structs.Provider(defaultConfig(), "koanf"), nil); err != nil {
		return Config{}, fmt.Errorf("load defaults: %w", err)
	}
	known := k.All()
	file, err := fromFile(path, text, known)
	env, envErr := fromEnv(environ, known)
	given := make(map[string]any, len(flags))
	var flagErrs []error
	for key, value := range flags {
		v, err := convert(value, known[key])
		if err != nil {
			flagErrs = append(flagErrs, fmt.Errorf("%s: %w", key, err))
		}
		given[key] = v
	}
	if err := errors.Join(err, envErr, errors.Join(flagErrs...)); err != nil {
		return Config{}, err
	}
	for _, values := range []map[string]any{file, env, given} {
		if err := k.Load(confmap.Provider(values, "."), nil); err != nil {
			return Config{}, fmt.Errorf("load configuration: %w", err)
		}
	}
	var cfg Config
	if err := k.Unmarshal("", &cfg); err != nil {
		return Config{}, fmt.Errorf("read configuration: %w", err)
	}
	return cfg, cfg.Validate()
}

// fromFile returns the file's values by key. Keys that nobody reads are errors: most are typing errors, and all of them
// mean that the operator believes something that is not so.
func fromFile(path string, text []byte, known map[string]any) (map[string]any, error) {
	if len(strings.TrimSpace(string(text))) == 0 {
		return nil, nil
	}
	tree, err := yaml.Parser().Unmarshal(text)
	if err != nil {
		return nil, fmt.Errorf("%s is not YAML as flannel.yaml has it: %w", path, err)
	}
	values := make(map[string]any)
	var errs []error
	for _, err := range flatten("", tree, known, values) {
		errs = append(errs, fmt.Errorf("%s: %w", path, err))
	}
	return values, errors.Join(errs...)
}

// fromEnv returns the environment's values by key.
func fromEnv(environ []string, known map[string]any) (map[string]any, error) {
	keys := make(map[string]string, len(known))
	for key := range known {
		keys[envName(key)] = key
	}
	values := make(map[string]any)
	var errs []error
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, envPrefix) {
			continue
		}
		key, ok := keys[name]
		if !ok {
			errs = append(errs, fmt.Errorf("environment variable %s names no key of the configuration%s", name, suggestion(name, keys)))
			continue
		}
		v, err := convert(value, known[key])
		if err != nil {
			errs = append(errs, fmt.Errorf("environment variable %s: %w", name, err))
			continue
		}
		values[key] = v
	}
	return values, errors.Join(errs...)
}

// findConfig returns path, or flannel.yaml in the working folder if that exists, or nothing.
func findConfig(path string) string {
	if path == "" {
		if _, err := os.Stat("flannel.yaml"); err == nil {
			return "flannel.yaml"
		}
	}
	return path
}
