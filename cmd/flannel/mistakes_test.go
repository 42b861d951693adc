package main

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Each mistake gets its exit code and says what to do next; nothing is printed on standard output.
func TestMistakes_ExitCodesAndWhatToDo(t *testing.T) {
	empty, made := t.TempDir(), t.TempDir()
	must(t, "generate", "--data", made, "--preset", "12")
	bad := writeConfig(t, "node: {edge: {lisen: x}}\n")
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"devv", exitUsage, `unknown command "devv" for "flannel"; did you mean dev?`},
		{"check confg", exitUsage, `did you mean config?`},
		{"bench nothing", exitUsage, "flannel bench --help"},
		{"dev extra", exitUsage, `"extra" is one word too many`},
		{"dev --preset many", exitUsage, "flannel dev --help"},
		{"import", exitUsage, "flannel import PATH"},
		{"import a b --data x", exitUsage, "exactly one argument"},
		{"check config a b", exitUsage, "flannel check config --help"},
		{"generate --data " + made + " --users 2", exitUsage, "at least 3"},
		{"generate --data " + made + " --preset 12", exitFailed, "choose another --seed"},
		{"token --data " + made + " --user nobody", exitFailed, "flannel token --all"},
		{"token --data " + made + " --all --user U1", exitUsage, "either --user"},
		{"token --data " + made + " --all --life -1h", exitUsage, "like 24h"},
		{"token --data " + empty + " --all", exitFailed, "flannel generate"},
		{"token --data " + filepath.Join(empty, "none") + " --all", exitFailed, "flannel generate"},
		{"backend --data " + empty + " --listen 127.0.0.1:0 --upstream-listen 127.0.0.1:0 --admin-listen 127.0.0.1:0", exitFailed, "flannel generate --data " + empty},
		{"backend --data " + made + " --upstream-key short", exitUsage, "backend.upstream_key"},
		{"edge", exitUsage, "--upstream-key-file"},
		{"edge --upstream-key-file " + filepath.Join(empty, "none"), exitUsage, "none"},
		{"edge --config " + bad, exitUsage, `did you mean "node.edge.listen"`},
		{"dev --config " + bad, exitUsage, `did you mean "node.edge.listen"`},
		{"dev --config " + filepath.Join(empty, "none"), exitUsage, "--config FILE"},
		{"dev --log-level loud", exitUsage, "choose debug, info, warn or error"},
		{"dev --listen nonsense", exitFailed, "choose another address with --listen"},
		{"import " + filepath.Join(empty, "none.zip") + " --data " + empty, exitFailed, "none.zip"},
		{"check upstream nonsense --key k --token t", exitUsage, "http://127.0.0.1:8090"},
		{"bench idle --metrics-listen nowhere", exitUsage, "--metrics-listen"},
		{"bench boot --presets 13", exitUsage, "148170"},
		{"bench boot --presets 12 --full 0", exitUsage, "at least 1"},
	} {
		code, stdout, stderr := flannel(t, strings.Fields(c.args)...)
		if code != c.code || stdout != "" || !strings.Contains(stderr, c.want) {
			t.Errorf("flannel %s: exit code %d, output %q, errors %q; want %d and %q", c.args, code, stdout, stderr, c.code, c.want)
		}
	}
}

// An address in use is told with the flag that changes it, before anything long begins.
func TestMistakes_AddressInUseNamesTheFlag(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	taken, data := ln.Addr().String(), t.TempDir()
	must(t, "generate", "--data", data, "--preset", "12")
	for command, flags := range map[string][]string{
		"dev --preset 148170":      {"listen", "backend-listen", "admin-listen"},
		"backend --data " + data:   {"listen", "upstream-listen", "admin-listen"},
		"edge --upstream-key KEYS": {"listen", "admin-listen"},
	} {
		for _, flag := range flags {
			args := strings.Fields(command)
			for _, f := range flags {
				address := "127.0.0.1:0"
				if f == flag {
					address = taken
				}
				args = append(args, "--"+f, address)
			}
			code, stdout, stderr := flannel(t, args...)
			if code != exitFailed || stdout != "" || !strings.Contains(stderr, "with --"+flag) || !strings.Contains(stderr, "another program listens there") {
				t.Errorf("flannel %s: exit code %d, %s%s", strings.Join(args, " "), code, stdout, stderr)
			}
		}
	}
}

func TestMistakes_EnvironmentIsChecked(t *testing.T) {
	var out, errs lockedBuffer
	if code := run(t.Context(), []string{"check", "config"}, []string{"FLANNEL_NODE_EDGE_LISEN=x"}, &out, &errs); code != exitUsage || !strings.Contains(errs.String(), "FLANNEL_NODE_EDGE_LISTEN") {
		t.Errorf("exit code %d, %s", code, &errs)
	}
}

// Help is an answer: it goes to standard output, and the exit code is 0.
func TestHelp_IsAnAnswer(t *testing.T) {
	for _, args := range [][]string{{}, {"--help"}, {"help"}, {"help", "dev"}, {"dev", "--help"}, {"check"}, {"bench"}, {"check", "upstream", "--help"}} {
		if out := must(t, args...); !strings.Contains(out, "Examples:") || !strings.Contains(out, "flannel") {
			t.Errorf("flannel %v says %s", args, out)
		}
	}
	var v struct{ Version, Revision, Go string }
	if err := json.Unmarshal([]byte(must(t, "version", "--json")), &v); err != nil || v.Version == "" || !strings.HasPrefix(v.Go, "go1.") {
		t.Errorf("version says %+v, %v", v, err)
	}
}

func TestGenerate_JSONAndTheSameTwice(t *testing.T) {
	var made [2]map[string]any
	for i := range made {
		out := must(t, "generate", "--data", t.TempDir(), "--users", "20", "--seed", "7", "--json")
		if err := json.Unmarshal([]byte(out), &made[i]); err != nil {
			t.Fatalf("%s: %v", out, err)
		}
	}
	first, _ := json.Marshal(made[0])
	second, _ := json.Marshal(made[1])
	if string(first) != string(second) || !strings.Contains(string(first), `20`) {
		t.Errorf("the same seed gives\n%s\n%s", first, second)
	}
}

func TestToken_AllIsEverybodyWhoMayComeIn(t *testing.T) {
	data := t.TempDir()
	must(t, "import", "../../backend/slackexport/testdata/acme", "--data", data)
	all := must(t, "token", "--data", data, "--all")
	users := make(map[string]bool)
	for line := range strings.Lines(all) {
		words := strings.Fields(line)
		if len(words) != 2 || users[words[0]] || !strings.HasPrefix(words[1], "xox") {
			t.Errorf("line %q", line)
			continue
		}
		users[words[0]] = true
		one := must(t, "token", "--data", data, "--user", words[0])
		if !strings.HasPrefix(one, words[1][:5]) || strings.Count(one, "\n") != 1 {
			t.Errorf("token of %s is %q", words[0], one)
		}
	}
	if len(users) < 2 {
		t.Errorf("only %d users:\n%s", len(users), all)
	}
	if info, err := os.Stat(filepath.Join(data, "token.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the token key: %v, %v", info, err)
	}
}
