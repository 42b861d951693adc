package upstream

import (
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func TestConfig_DefaultIsValidWithURLAndKey(t *testing.T) {
	cfg := Default()
	if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "url") || !strings.Contains(err.Error(), "key") {
		t.Errorf("without URL and key: %v", err)
	}
	for _, url := range []string{"http://127.0.0.1:8081", "https://backend.example/", "http://[::1]:8081"} {
		cfg.URL, cfg.Key = url, "k"
		if err := cfg.Validate(); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestConfig_WhatIsWrongIsNamed(t *testing.T) {
	for want, change := range map[string]func(c *Config){
		"neither http": func(c *Config) { c.URL = "ftp://x" },
		"no host":      func(c *Config) { c.URL = "http://" },
		"only a":       func(c *Config) { c.URL = "http://x/path" },
		"url":          func(c *Config) { c.URL = "http://%zz" },
		"retry_max":    func(c *Config) { c.RetryMax = c.RetryMin - 1 },
		"reconnect_ma": func(c *Config) { c.ReconnectMax = 1 },
		"max_concurre": func(c *Config) { c.MaxConcurrency = 1 },
		"retry_budget": func(c *Config) { c.RetryBudget = 2 },
		"breaker_fail": func(c *Config) { c.BreakerFailures = 0 },
		"linger":       func(c *Config) { c.Linger = -1 },
	} {
		cfg := Default()
		cfg.URL, cfg.Key = "http://x", "k"
		change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// Every figure has a limit below which it is refused, so that a zero left by a careless caller is found.
func TestConfig_ZeroesAreRefused(t *testing.T) {
	for i := range reflect.TypeFor[Config]().NumField() {
		cfg := Default()
		cfg.URL, cfg.Key = "http://x", "k"
		field := reflect.ValueOf(&cfg).Elem().Field(i)
		name := reflect.TypeFor[Config]().Field(i).Tag.Get("koanf")
		if name == "" {
			t.Errorf("field %d has no name", i)
		}
		field.SetZero()
		err := cfg.Validate()
		switch name {
		case "batch_window", "batch_window_max", "batch_every", "linger", "stable_after", "retry_budget":
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		default:
			if err == nil {
				t.Errorf("%s: zero is taken", name)
			}
		}
	}
}

func TestNew_WantsWhatItNeeds(t *testing.T) {
	cfg := Default()
	if _, err := New(cfg, Options{Log: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()}); err == nil {
		t.Error("taken without URL")
	}
	cfg.URL, cfg.Key = "http://x", "k"
	if _, err := New(cfg, Options{}); err == nil {
		t.Error("taken without Log")
	}
}

// All label values exist at zero from the start, and none is unbounded.
func TestMetrics_ExistAtZero(t *testing.T) {
	cfg := Default()
	cfg.URL, cfg.Key = "http://x", "k"
	reg := prometheus.NewRegistry()
	u, err := New(cfg, Options{Log: slog.New(slog.DiscardHandler), Registerer: reg})
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	series := make(map[string]int)
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "flannel_upstream_") {
			t.Errorf("%s has another prefix", f.GetName())
		}
		series[f.GetName()] = len(f.GetMetric())
	}
	for name, n := range map[string]int{
		"requests_total": 7 * len(codes), "request_duration_seconds": 7, "inflight": 7, "retries_total": 7,
		"joined_total": 7, "batch_size": 7, "breaker_state": 21, "limit": 7, "boot_limit": 1, "boot_waiting": 1, "boot_peak": 1, "stream_up": 1,
		"stream_lag_seconds": 1, "stream_reconnects_total": len(ends), "stream_frames_total": 2 * len(streamFrames),
		"stream_events_total": 4, "stream_resets_total": 3, "topics": 3, "topics_refused_total": 1,
		"publish_dropped_total": 3,
	} {
		if got := series["flannel_upstream_"+name]; got != n {
			t.Errorf("%s has %d series, want %d", name, got, n)
		}
		delete(series, "flannel_upstream_"+name)
	}
	if len(series) > 0 {
		t.Errorf("not in the list: %v", series)
	}
	if u.BootConcurrency() != cfg.BootConcurrency || u.lag.seconds(time.Now()) != 0 {
		t.Error("the gauges do not show the start")
	}
}
