package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"flannel/node"
)

// whileRunning are the keys that SIGHUP takes over; all others take a restart.
var whileRunning = []string{"node.edge.max_calls", "node.edge.max_handshakes", "node.edge.max_sessions", "node.edge.open_rate", "node.upstream.boot_concurrency"}

// reloader reads the configuration again on SIGHUP and lets the nodes take over what can be changed while they run. A
// configuration with a mistake changes nothing.
type reloader struct {
	load  func() (Config, error)
	nodes []*node.Node
	log   *slog.Logger

	running Config // owned by Run
	signals chan os.Signal
	done    chan struct{} // closed by Stop
	stop    sync.Once

	success, at prometheus.Gauge
}

// newReloader listens for the signal from now on. running is what the nodes have been built with.
func newReloader(load func() (Config, error), running Config, nodes []*node.Node, reg prometheus.Registerer, log *slog.Logger) *reloader {
	f := promauto.With(reg)
	r := &reloader{
		load: load, nodes: nodes, log: log, running: running, signals: make(chan os.Signal, 1), done: make(chan struct{}),
		success: f.NewGauge(prometheus.GaugeOpts{Name: "flannel_config_last_reload_success", Help: "1 if the configuration that was read last, at the start or on SIGHUP, was sound."}),
		at:      f.NewGauge(prometheus.GaugeOpts{Name: "flannel_config_last_reload_success_timestamp_seconds", Help: "When a sound configuration was read last."}),
	}
	r.success.Set(1)
	r.at.SetToCurrentTime()
	signal.Notify(r.signals, syscall.SIGHUP)
	return r
}

// Run reloads until Stop.
func (r *reloader) Run(context.Context) error {
	defer signal.Stop(r.signals)
	for {
		select {
		case <-r.signals:
			r.reload()
		case <-r.done:
			return nil
		}
	}
}

// Stop ends Run.
func (r *reloader) Stop(context.Context) error {
	r.stop.Do(func() { close(r.done) })
	return nil
}

func (r *reloader) reload() {
	cfg, err := r.load()
	if err == nil {
		for _, n := range r.nodes {
			err = errors.Join(err, n.Reconfigure(cfg.Node))
		}
	}
	if err != nil {
		r.success.Set(0)
		r.log.Error("configuration is not taken over: correct it and send SIGHUP again", "err", err)
		return
	}
	changed, restart := changes(r.running, cfg)
	r.running = cfg
	r.success.Set(1)
	r.at.SetToCurrentTime()
	r.log.Info("configuration is taken over", "changed", changed)
	if len(restart) > 0 {
		r.log.Warn("these keys have changed, too, and take a restart", "keys", restart)
	}
}

// changes returns the keys of which the values differ: those that are taken over while running, and those that are not.
func changes(was, is Config) (running, restart []string) {
	before, after := flat(was), flat(is)
	for _, key := range slices.Sorted(maps.Keys(after)) {
		switch {
		case fmt.Sprint(before[key]) == fmt.Sprint(after[key]):
		case slices.Contains(whileRunning, key):
			running = append(running, key)
		default:
			restart = append(restart, key)
		}
	}
	return running, restart
}
