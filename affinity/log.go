package affinity

import (
	"context"
	"log/slog"
	"strings"
)

// bridge carries memberlist's log lines, "[WARN] memberlist: text", to slog: with their level, and counted by it. What
// memberlist calls info is debug here, because flannel tells of members itself.
type bridge struct {
	slog.Handler
	metrics *metrics
}

// Enabled implements slog.Handler. The level is known only when the line is read.
func (b bridge) Enabled(context.Context, slog.Level) bool { return true }

// WithAttrs implements slog.Handler.
func (b bridge) WithAttrs(attrs []slog.Attr) slog.Handler {
	return bridge{b.Handler.WithAttrs(attrs), b.metrics}
}

// WithGroup implements slog.Handler.
func (b bridge) WithGroup(name string) slog.Handler {
	return bridge{b.Handler.WithGroup(name), b.metrics}
}

// Handle implements slog.Handler.
func (b bridge) Handle(ctx context.Context, r slog.Record) error {
	text, level, name := r.Message, slog.LevelDebug, "debug"
	if rest, ok := strings.CutPrefix(text, "["); ok {
		if tag, after, ok := strings.Cut(rest, "] "); ok {
			text = after
			switch tag {
			case "WARN":
				level, name = slog.LevelWarn, "warn"
			case "ERR", "ERROR":
				// It goes on by itself; what an operator must do something about is logged by Cluster.
				level, name = slog.LevelWarn, "error"
			}
		}
	}
	b.metrics.lines.WithLabelValues(name).Inc()
	if !b.Handler.Enabled(ctx, level) {
		return nil
	}
	line := slog.NewRecord(r.Time, level, "gossip said", r.PC)
	line.AddAttrs(slog.String("text", strings.TrimPrefix(text, "memberlist: ")))
	return b.Handler.Handle(ctx, line)
}
