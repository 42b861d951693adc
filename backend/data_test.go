package backend_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"flannel/backend"
	"flannel/backend/token"
)

func TestData_IsLockedAndKept(t *testing.T) {
	s := start(t, nil)
	// Two backends run in one process, each with its own.
	other := start(t, nil)
	if s.UpstreamKey() == other.UpstreamKey() || len(s.UpstreamKey()) < 16 {
		t.Error("two backends have the same service key")
	}
	other.must(other.token(ann), "auth.test")

	folder := t.TempDir()
	furnish(t, folder)
	b, err := backend.New(backend.Options{Config: config(folder), Log: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	key := b.UpstreamKey()
	if _, _, err := backend.OpenStore(t.Context(), folder); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("OpenStore beside a server = %v", err)
	}
	if _, err := backend.New(backend.Options{Config: config(folder), Log: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()}); err == nil {
		t.Error("a second backend took the same folder")
	}
	st, signer, err := backend.OpenBeside(t.Context(), folder)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := signer.Issue(token.Claims{User: ann, Workspace: workspace}); err != nil {
		t.Error(err)
	}
	if err := st.Close(); err != nil {
		t.Error(err)
	}
	// Stopped without ever having run, twice.
	for range 2 {
		if err := b.Stop(t.Context()); err != nil {
			t.Errorf("Stop = %v", err)
		}
	}
	b, err = backend.New(backend.Options{Config: config(folder), Log: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	if b.UpstreamKey() != key {
		t.Error("the service key changed")
	}
	// The end of Run's context stops it too.
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := b.Run(ctx); err != nil {
		t.Errorf("Run = %v", err)
	}
	if _, _, err := backend.OpenBeside(t.Context(), t.TempDir()); err == nil {
		t.Error("OpenBeside made a store where there was none")
	}
}

func TestConfig_Validate(t *testing.T) {
	good := backend.Default()
	if err := good.Validate(); err != nil {
		t.Errorf("the defaults are refused: %v", err)
	}
	bad := good
	bad.Data, bad.Listen, bad.UpstreamListen, bad.AdminListen, bad.UpstreamKey, bad.OfflineDelay = "", "x", "", "y", "short", -1
	bad.Hub.Events, bad.Gateway.Heartbeat, bad.RTM.Origins = 0, 0, []string{"example.com"}
	err := bad.Validate()
	for _, want := range []string{"data", "listen", "upstream_listen", "admin_listen", "upstream_key", "offline_delay", "hub", "gateway", "rtm"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s is not complained of: %v", want, err)
		}
	}
}
