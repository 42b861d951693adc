//go:build linux

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"flannel/bench"
)

// sheetOf runs a load scenario whose children are this test binary.
func sheetOf(t *testing.T, args ...string) (figures map[string]float64, cases []bench.Case) {
	t.Helper()
	t.Setenv(runAs, "1")
	code, out, stderr := flannel(t, append(append([]string{"bench"}, args...), "--json")...)
	var sheet struct {
		Scenario string
		Figures  map[string]float64
		Cases    []bench.Case
	}
	if err := json.Unmarshal([]byte(out), &sheet); code != exitOK || err != nil || sheet.Scenario != args[0] || len(sheet.Cases) == 0 {
		t.Fatalf("exit code %d, %v: %s\n%s", code, err, out, stderr)
	}
	if sheet.Figures["lost"] != 0 || sheet.Figures["errors"] != 0 {
		t.Errorf("%v\n%s", sheet, stderr)
	}
	return sheet.Figures, sheet.Cases
}

func TestBenchIdle_Figures(t *testing.T) {
	figures, _ := sheetOf(t, "idle", "--sessions", "30", "--generators", "2", "--settle", "0s", "--hold", "0s")
	if figures["sessions"] != 30 || figures["rss_kib_per_session"] <= 0 || figures["rss_kib_per_session_peak"] < figures["rss_kib_per_session"] || figures["rss_kib_empty"] < 1000 {
		t.Errorf("%v", figures)
	}
}

func TestBenchConnect_Figures(t *testing.T) {
	figures, _ := sheetOf(t, "connect", "--sessions", "40", "--rate", "400", "--runs", "2")
	if figures["sessions"] != 40 || figures["p99_ms"] <= 0 || figures["p50_ms"] > figures["p99_ms"] || figures["backend_calls"] != 0 || figures["bytes_per_connect"] < 10_000 {
		t.Errorf("%v", figures)
	}
	if _, ok := figures["cpu_us_per_connect"]; !ok {
		t.Errorf("%v", figures)
	}
}

// What is compressed is counted and timed like what is not, and is shorter: a boot, and a long message.
func TestBench_Compression(t *testing.T) {
	t.Setenv("FLANNEL_NODE_EDGE_COMPRESSION_PARALLEL", "100") // A busy machine would compress only some of the boots.
	bytes := func(figure string, args ...string) float64 {
		t.Helper()
		figures, _ := sheetOf(t, args...)
		if figures["p99_ms"] <= 0 || figures[figure] <= 0 {
			t.Errorf("%v", figures)
		}
		return figures[figure]
	}
	connect := []string{"connect", "--sessions", "20", "--rate", "20"}
	if plain, packed := bytes("bytes_per_connect", connect...), bytes("bytes_per_connect", append(connect, "--compression")...); packed > plain/3 {
		t.Errorf("a boot of %v bytes is %v compressed", plain, packed)
	}
	fanout := []string{"fanout", "--paced-to", "20", "--pace", "20", "--paced-for", "1s", "--subscribers", "0", "--text", "3000"}
	plain, packed := bytes("bytes_per_delivery", fanout...), bytes("bytes_per_delivery", append(fanout, "--compression")...)
	if plain < 3000 || packed > 0.6*plain {
		t.Errorf("a message of %v bytes is %v compressed", plain, packed)
	}
}

// An edge that runs already, and people who have tokens.
func TestBenchConnect_AtARunningEdge(t *testing.T) {
	_, r := dev(t)
	tokens := filepath.Join(t.TempDir(), "tokens")
	text := ""
	for _, tok := range r.Tokens {
		if tok.Role == "member" {
			text += string(tok.User) + " " + tok.Token + "\n"
		}
	}
	if err := os.WriteFile(tokens, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	figures, _ := sheetOf(t, "connect", "--sessions", "20", "--rate", "100", "--url", r.Edge, "--tokens", tokens)
	if figures["sessions"] != 20 || figures["p99_ms"] <= 0 {
		t.Errorf("%v", figures)
	}
	figures, _ = sheetOf(t, "query", "--sessions", "4", "--depth", "1", "--batch", "2", "--rate", "100", "--warm", "0s", "--for", "200ms", "--url", r.Edge, "--tokens", tokens)
	if figures["queries_per_s"] <= 0 {
		t.Errorf("%v", figures)
	}
	figures, _ = sheetOf(t, "fanout", "--paced-to", "10", "--pace", "10", "--paced-for", "300ms", "--subscribers", "0", "--url", r.Edge, "--tokens", tokens, "--channel", general(t, r))
	if figures["deliveries_per_s"] <= 0 {
		t.Errorf("%v", figures)
	}
	figures, _ = sheetOf(t, "idle", "--sessions", "20", "--settle", "0s", "--hold", "0s", "--url", r.Edge, "--tokens", tokens, "--pid", strconv.Itoa(os.Getpid()))
	if figures["sessions"] != 20 {
		t.Errorf("%v", figures)
	}
}

// So few questions that the limits of a session are far.
func TestBenchQuery_Figures(t *testing.T) {
	figures, cases := sheetOf(t, "query", "--sessions", "4", "--depth", "1,2", "--batch", "3", "--rate", "200", "--warm", "50ms", "--for", "200ms")
	if len(cases) != 3 || figures["queries_per_s"] <= 0 || figures["objects_per_s_batches_of_3"] <= 0 || figures["p99_ms_depth_2"] <= 0 {
		t.Errorf("%v", figures)
	}
	if per := figures["objects_per_s_batches_of_3"] / figures["queries_per_s_batches_of_3"]; per < 2.99 || per > 3.01 {
		t.Errorf("%v objects in a question", per)
	}
}

func TestBenchFanout_Figures(t *testing.T) {
	figures, cases := sheetOf(t, "fanout", "--paced-to", "20", "--pace", "50", "--paced-for", "200ms", "--subscribers", "30", "--in-flight", "1,4", "--for", "100ms", "--generators", "2")
	if len(cases) != 3 || figures["deliveries_per_s"] <= 0 || figures["deliveries_per_s_in_flight_4"] <= 0 || figures["p99_ms_paced"] <= 0 || figures["p99_ms"] != figures["p99_ms_paced"] {
		t.Errorf("%v", figures)
	}
}

// The reference server does the same, and ratios may be required.
// What comes above the limit is turned away, and comes back; nobody of those who stay misses a message.
func TestBenchOverload_Figures(t *testing.T) {
	t.Setenv("FLANNEL_NODE_EDGE_OPEN_RATE", "60")
	t.Setenv("FLANNEL_NODE_EDGE_RECONNECT_MAX", "1s")
	figures, cases := sheetOf(t, "overload", "--boot", "none", "--steady", "5", "--storm", "100", "--spread", "100ms", "--each", "500ms", "--pace", "20", "--factors", "2")
	if len(cases) != 4 || figures["back_storm"] != 100 || figures["turned_away_storm"] == 0 || figures["p99_times_storm"] <= 0 || figures["seconds_to_last_storm"] < 1 {
		t.Errorf("%v", figures)
	}
	if figures["goodput_per_s_peak"] <= 0 || figures["goodput_share_offered_×2"] <= 0 || figures["turned_away_offered_×2"] == 0 {
		t.Errorf("%v", figures)
	}
}

func TestBenchLoad_Compare(t *testing.T) {
	for _, args := range [][]string{
		{"connect", "--sessions", "20", "--rate", "200", "--boot", "lazy"},
		{"idle", "--sessions", "20", "--settle", "0s", "--hold", "0s"},
		{"query", "--sessions", "2", "--depth", "1", "--batch", "2", "--rate", "100", "--warm", "0s", "--for", "200ms"},
		{"fanout", "--paced-to", "0", "--subscribers", "20", "--in-flight", "2", "--for", "100ms"},
	} {
		figures, cases := sheetOf(t, append(args, "--compare=reference", "--runs", "2")...)
		theirs := cases[len(cases)-1]
		if theirs.Server != "reference" || theirs.Figures["errors"] != 0 || theirs.Figures["lost"] != 0 || cases[0].Server != "flannel" {
			t.Errorf("%s: %+v", args[0], cases)
		}
		ratios := 0
		for figure := range figures {
			if strings.HasSuffix(figure, "/reference") {
				ratios++
			}
		}
		if ratios == 0 {
			t.Errorf("%s: no ratio in %v", args[0], figures)
		}
	}
}

// A server that does nothing answers rightly too.
func TestBenchLoad_SelfCheck(t *testing.T) {
	for _, args := range [][]string{
		{"connect", "--sessions", "20", "--rate", "200"},
		{"query", "--sessions", "2", "--depth", "3", "--batch", "40", "--rate", "100", "--warm", "0s", "--for", "200ms"},
		{"fanout", "--paced-to", "10", "--pace", "50", "--paced-for", "100ms", "--subscribers", "20", "--in-flight", "8", "--for", "100ms"},
	} {
		_, cases := sheetOf(t, append(args, "--self-check")...)
		bare := 0
		for _, c := range cases {
			if c.Server != bareServer {
				continue
			}
			bare++
			if c.Figures["errors"] != 0 || c.Figures["lost"] != 0 || c.Figures["connects_per_s"]+c.Figures["queries_per_s"]+c.Figures["deliveries_per_s"] <= 0 {
				t.Errorf("%s: %+v", args[0], c)
			}
		}
		if bare != len(cases)/2 {
			t.Errorf("%s: %+v", args[0], cases)
		}
	}
}

// Who is not installed is left out if nobody named them, and is an error if somebody did, and in CI.
func TestBenchLoad_CompareWithWhoIsNotThere(t *testing.T) {
	t.Setenv(runAs, "1")
	t.Setenv("PATH", t.TempDir())
	t.Setenv("CI", "")
	args := []string{"bench", "query", "--sessions", "2", "--depth", "1", "--batch", "0", "--rate", "50", "--warm", "0s", "--for", "100ms"}
	code, out, stderr := flannel(t, append(args, "--compare")...)
	if code != exitOK || !strings.Contains(stderr, "left out: redis is not installed: apt-get install redis-server") || !strings.Contains(out, "flannel by") {
		t.Errorf("exit code %d\n%s%s", code, out, stderr)
	}
	if code, _, stderr := flannel(t, append(args, "--compare=memcached")...); code != exitFailed || !strings.Contains(stderr, "apt-get install memcached") {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
	t.Setenv("CI", "true")
	if code, _, stderr := flannel(t, append(args, "--compare")...); code != exitFailed || !strings.Contains(stderr, "apt-get install redis-server") {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
}

// What is required decides the exit code, and stands under the table.
func TestBenchLoad_Verdicts(t *testing.T) {
	t.Setenv(runAs, "1")
	html := filepath.Join(t.TempDir(), "page.html")
	args := []string{"bench", "connect", "--sessions", "5", "--rate", "100", "--require", "p99<1h", "--require", "errors==0", "--html", html}
	code, out, stderr := flannel(t, args...)
	if page, err := os.ReadFile(html); err != nil || !strings.Contains(string(page), "Latency by percentile") {
		t.Errorf("the page has %d bytes, %v", len(page), err)
	}
	if code != exitOK || !strings.Contains(out, "p99<1h: met") || !strings.Contains(out, "errors==0: met") || !strings.Contains(out, "CPU µs/connect") {
		t.Errorf("exit code %d\n%s%s", code, out, stderr)
	}
	code, out, stderr = flannel(t, append(args, "--require", "sessions>5")...)
	if code != exitUnmet || !strings.Contains(out, "sessions>5: NOT MET (5)") || !strings.Contains(stderr, "not met") {
		t.Errorf("exit code %d\n%s%s", code, out, stderr)
	}
}

func TestBenchLoad_Mistakes(t *testing.T) {
	for args, want := range map[string]string{
		"idle --sessions 0":                          "at least 1",
		"idle --settle -1s":                          "not below 0",
		"idle --require p99":                         "p99<50ms",
		"idle --require p99<fast":                    "p99<50ms",
		"idle --url http://127.0.0.1:8080":           "--pid",
		"connect --rate 0":                           "above 0",
		"connect --generators 9 --sessions 3":        "too many",
		"connect --url http://127.0.0.1:8080":        "--tokens",
		"connect --pid 1":                            "--url",
		"connect --sessions 99999999":                "ulimit -n",
		"connect --sessions 999999 --generators 1":   "--generators",
		"connect --url https://x --tokens /dev/nul":  "http://HOST:PORT",
		"idle --self-check":                          "no --self-check",
		"connect --boot no":                          "choose thin",
		"connect --compare=redis":                    "reference, nchan",
		"connect extra":                              "one word too many",
		"query --depth 0":                            "at least 1",
		"query --batch 1001":                         "1,000",
		"query --for 0s":                             "above 0",
		"fanout --in-flight 0":                       "at least 1",
		"fanout --pace 0":                            "above 0",
		"fanout --url http://127.0.0.1:1 --tokens x": "--channel",
	} {
		code, _, stderr := flannel(t, append([]string{"bench"}, strings.Fields(args)...)...)
		if code != exitUsage || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit code %d\n%s", args, code, stderr)
		}
	}
}

// general is the channel that everybody is in.
func general(t *testing.T, r ready) string {
	t.Helper()
	body, err := callAPI(t.Context(), r.Edge, "client.userBoot", memberOf(t, r), nil)
	if err != nil {
		t.Fatal(err)
	}
	var boot struct {
		Channels []struct {
			ID        string `json:"id"`
			IsGeneral bool   `json:"is_general"`
		} `json:"channels"`
	}
	if err := json.Unmarshal(body, &boot); err != nil {
		t.Fatal(err)
	}
	for _, c := range boot.Channels {
		if c.IsGeneral {
			return c.ID
		}
	}
	t.Fatal("there is no general channel")
	return ""
}
