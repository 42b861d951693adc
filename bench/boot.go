package bench

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// BootTarget is one workspace behind an edge and its backend.
type BootTarget struct {
	// Users is the number of people of the workspace, PublishedBytes the published size of a full boot of one that size.
	Users          int
	PublishedBytes int
	// Backend is the base URL of the backend.
	Backend string
	// Token is the one that boots: a user in about 100 channels.
	Token string
	// FreshEdge starts an edge that has never seen anything, in place of the last one, and returns its base URL.
	FreshEdge func(ctx context.Context) (string, error)
	// BackendCalls returns how many loads and forwards the edge has sent to the backend since it was started.
	BackendCalls func() (int, error)
}

// BootOptions says how often.
type BootOptions struct {
	Full, Cold, Warm int // runs of each; the median counts
	// Progress is told before each run.
	Progress func(phase string, done, total int)
}

// DefaultBoot is enough for a median that means something.
func DefaultBoot() BootOptions { return BootOptions{Full: 3, Cold: 7, Warm: 51} }

// BootRow is one line of the scenario. Thin is client.userBoot plus client.counts, as a client without lazy channels
// asks for them; Lazy is the same with lazy_channels=1.
type BootRow struct {
	Users          int     `json:"users"`
	PublishedBytes int     `json:"published_bytes"`
	FullBytes      int     `json:"full_bytes"`
	UsersBytes     int     `json:"users_bytes"`
	ChannelsBytes  int     `json:"channels_bytes"`
	FullMS         float64 `json:"full_ms"`
	ThinBytes      int     `json:"thin_bytes"`
	ThinGzipBytes  int     `json:"thin_gzip_bytes"`
	LazyBytes      int     `json:"lazy_bytes"`
	WarmMS         float64 `json:"warm_ms"`
	ColdMS         float64 `json:"cold_ms"`
	Ratio          float64 `json:"ratio"` // full bytes / thin bytes
	BackendCalls   int     `json:"backend_calls"`
	Channels       int     `json:"channels"` // conversations of the user who boots
}

// Boot measures one target.
func Boot(ctx context.Context, t BootTarget, opt BootOptions) (BootRow, error) {
	row := BootRow{Users: t.Users, PublishedBytes: t.PublishedBytes}
	client := newCaller(t.Token)
	defer client.close()
	step := func(phase string, i, n int) {
		if opt.Progress != nil {
			opt.Progress(fmt.Sprintf("%d users: %s", t.Users, phase), i, n)
		}
	}

	full := make([]time.Duration, 0, opt.Full)
	for i := range opt.Full {
		body, took, err := client.call(ctx, t.Backend, "rtm.start", nil)
		if err != nil {
			return row, err
		}
		full = append(full, took)
		if i == 0 {
			if row.FullBytes, row.UsersBytes, row.ChannelsBytes, err = fullSizes(body); err != nil {
				return row, err
			}
		}
		step("full boots", i+1, opt.Full)
	}
	row.FullMS = median(full)

	var edge string
	cold := make([]time.Duration, 0, opt.Cold)
	for i := range opt.Cold {
		var err error
		if edge, err = t.FreshEdge(ctx); err != nil {
			return row, fmt.Errorf("start a fresh edge: %w", err)
		}
		client.forget()
		_, took, err := client.thin(ctx, edge, false)
		if err != nil {
			return row, err
		}
		cold = append(cold, took)
		calls, err := t.BackendCalls()
		if err != nil {
			return row, err
		}
		row.BackendCalls = max(row.BackendCalls, calls)
		step("cold boots", i+1, opt.Cold)
	}
	row.ColdMS = median(cold)

	warm := make([]time.Duration, 0, opt.Warm)
	for i := range opt.Warm {
		body, took, err := client.thin(ctx, edge, false)
		if err != nil {
			return row, err
		}
		warm = append(warm, took)
		row.ThinBytes = len(body)
		if i == 0 {
			row.ThinGzipBytes = gzipped(body)
			row.Channels = bytes.Count(body, []byte(`"history_invalid"`))
		}
		step("warm boots", i+1, opt.Warm)
	}
	row.WarmMS = median(warm)
	lazy, _, err := client.thin(ctx, edge, true)
	if err != nil {
		return row, err
	}
	row.LazyBytes = len(lazy)
	row.Ratio = float64(row.FullBytes) / float64(row.ThinBytes)
	return row, nil
}

// caller calls the Web API over kept connections.
type caller struct {
	token string
	http  *http.Client
	t     *http.Transport
}

func newCaller(token string) *caller {
	t := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 2}
	return &caller{token: token, t: t, http: &http.Client{Transport: t}}
}

func (c *caller) close()  { c.t.CloseIdleConnections() }
func (c *caller) forget() { c.t.CloseIdleConnections() }

// call returns the body of a call that was answered with ok.
func (c *caller) call(ctx context.Context, base, method string, args url.Values) ([]byte, time.Duration, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/api/"+method, strings.NewReader(args.Encode()))
	if err != nil {
		return nil, 0, err
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	began := time.Now()
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, 0, fmt.Errorf("call %s: %w", method, err)
	}
	defer resp.Body.Close() //nolint:errcheck // Read to the end or given up.
	body, err := io.ReadAll(resp.Body)
	took := time.Since(began)
	if err != nil {
		return nil, 0, fmt.Errorf("call %s: %w", method, err)
	}
	var answer struct {
		OK    bool   `json:"ok"`
		Error string `json:"error"`
	}
	if len(body) < 1<<20 {
		if err := json.Unmarshal(body, &answer); err != nil {
			return nil, 0, fmt.Errorf("call %s: answer is not JSON: %w", method, err)
		}
	} else {
		answer.OK = bytes.HasPrefix(body, []byte(`{"ok":true`))
	}
	if resp.StatusCode != http.StatusOK || !answer.OK {
		return nil, 0, fmt.Errorf("call %s: status %d, error %q", method, resp.StatusCode, answer.Error)
	}
	return body, took, nil
}

// thin is a thin boot: userBoot, then counts.
func (c *caller) thin(ctx context.Context, edge string, lazy bool) ([]byte, time.Duration, error) {
	args := url.Values{}
	if lazy {
		args.Set("lazy_channels", "1")
	}
	boot, a, err := c.call(ctx, edge, "client.userBoot", args)
	if err != nil {
		return nil, 0, err
	}
	counts, b, err := c.call(ctx, edge, "client.counts", nil)
	if err != nil {
		return nil, 0, err
	}
	return append(boot, counts...), a + b, nil
}

// fullSizes measures the parts of rtm.start. Channels are the public ones with their member lists, as the published
// figures counted them; conversations of the one user are in the total only.
func fullSizes(body []byte) (total, users, channels int, err error) {
	var parts struct {
		Users    json.RawMessage `json:"users"`
		Channels json.RawMessage `json:"channels"`
	}
	if err := json.Unmarshal(body, &parts); err != nil {
		return 0, 0, 0, fmt.Errorf("read rtm.start: %w", err)
	}
	return len(body), len(parts.Users), len(parts.Channels), nil
}

func gzipped(body []byte) int {
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	w.Write(body) //nolint:errcheck // A bytes.Buffer takes everything.
	w.Close()     //nolint:errcheck // As above.
	return buf.Len()
}

// median in milliseconds.
func median(d []time.Duration) float64 {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return float64(d[len(d)/2].Microseconds()) / 1000
}
