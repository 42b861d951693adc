package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"flannel/protocol"
)

// TrafficTarget is one workspace behind an edge and its backend.
type TrafficTarget struct {
	// Users is the number of people of the workspace.
	Users         int
	Edge, Backend string // base URLs
	// Listeners have three sessions each, one of each mode, so that all modes hear the same.
	Listeners []Listener
	// Channels are where people talk, the largest first.
	Channels []TrafficChannel
	// Token returns the token of anybody.
	Token func(protocol.UserID) (string, error)
}

// Listener is somebody whose traffic is measured, with their conversations.
type Listener struct {
	Person
	Channels []protocol.ChannelID
}

// TrafficChannel is a conversation with those who talk in it.
type TrafficChannel struct {
	ID      protocol.ChannelID
	Members []protocol.UserID
}

// TrafficOptions says how busy the day is, and how much of it is replayed.
type TrafficOptions struct {
	// Duration is how long the replay takes, and Speed how much faster than the day it goes.
	Duration time.Duration
	Speed    float64
	// Typists are sockets from which people type: each may say so once in 3 s.
	Typists int
	// InView is the number of channels on the screen.
	InView int
	// Seed fixes the day.
	Seed uint64
	// Progress is told how much has been done.
	Progress func(phase string, done, total int)
}

// DefaultTraffic is an hour of the day: people are met, and asked for, mostly at the beginning, so a shorter part of it
// says too much of that. It is as fast as a small machine can do it for a workspace of 4,008.
func DefaultTraffic() TrafficOptions {
	return TrafficOptions{Duration: 3 * time.Minute, Speed: 20, Typists: 48, InView: 5, Seed: 1}
}

// Mode is a way to be connected.
type Mode string

// The modes.
const (
	// ModeCompatible is a client of the dialect as it always was: every event of its conversations and its workspace.
	ModeCompatible Mode = "compatible"
	// ModeThin is the Go client without a view: the same, with objects in front of those who need them.
	ModeThin Mode = "thin"
	// ModeThinViews is the Go client with a few channels in view.
	ModeThinViews Mode = "thin_views"
)

// Modes lists them in the order of the report.
var Modes = []Mode{ModeCompatible, ModeThin, ModeThinViews}

// TrafficFigures are what one session of a mode costs in an hour of the day, on the wire: both directions, with the
// headers of websocket frames, without those below.
type TrafficFigures struct {
	Sessions      int     `json:"sessions"`
	BytesPerHour  float64 `json:"bytes_per_session_hour"`
	SentPerHour   float64 `json:"sent_bytes_per_session_hour"` // by the client, part of the above
	FramesPerHour float64 `json:"frames_per_session_hour"`     // of the server
	// Kinds are the server's bytes by kind of frame.
	Kinds map[Kind]float64 `json:"kinds"`
	// BadgeShare is the share of events out of view that had a badge of their own; the others were part of a later one. Of
	// thin_views only, whose figures count a badge for each of them.
	BadgeShare float64 `json:"badge_share,omitempty"`
	// Lookups are the client's questions for objects that did not come by themselves.
	Lookups float64 `json:"lookups_per_session_hour"`
}

// TrafficReport is the scenario's result.
type TrafficReport struct {
	Users int
	// Events are what happened in the replayed part of the day, by what it was.
	Events map[string]int
	// Day is how much of the day was replayed.
	Day     time.Duration
	Figures map[Mode]TrafficFigures
	// Passive is nil if it was not measured.
	Passive *PassiveFigures
}

// Traffic replays a part of a busy day and measures what the sessions of each mode hear.
func Traffic(ctx context.Context, t TrafficTarget, opt TrafficOptions) (report TrafficReport, err error) {
	if len(t.Listeners) == 0 || len(t.Channels) == 0 {
		return report, errors.New("nobody listens, or nobody talks")
	}
	day := newDay(&t, opt)
	report = TrafficReport{Users: t.Users, Day: time.Duration(float64(opt.Duration) * opt.Speed), Figures: make(map[Mode]TrafficFigures)}

	var groups []*audience
	defer func() {
		for _, a := range groups {
			a.close()
		}
	}()
	for _, mode := range Modes {
		a := newAudience(mode)
		groups = append(groups, a)
		for i, l := range t.Listeners {
			if err := a.open(ctx, &t, l, day.view(l, opt.InView)); err != nil {
				return report, fmt.Errorf("open a %s session: %w", mode, err)
			}
			if opt.Progress != nil {
				opt.Progress("open "+string(mode)+" sessions", i+1, len(t.Listeners))
			}
		}
	}
	stage, err := newStage(ctx, &t, opt, day)
	if err != nil {
		return report, err
	}
	defer stage.close()

	for _, a := range groups {
		a.start()
	}
	began := time.Now()
	if report.Events, err = stage.play(ctx); err != nil {
		return report, err
	}
	sleep(ctx, time.Second+100*time.Millisecond) // The last badges.
	took := time.Since(began)
	if err := ctx.Err(); err != nil {
		return report, err
	}
	for _, a := range groups {
		if err := a.err(); err != nil {
			return report, fmt.Errorf("a %s session has ended: %w", a.mode, err)
		}
		report.Figures[a.mode] = a.figures(took, report.Day)
	}
	views := report.Figures[ModeThinViews]
	views.spread(groups[1].total(), groups[2].total(), float64(time.Hour)/float64(report.Day))
	report.Figures[ModeThinViews] = views
	return report, nil
}

// spread counts badges as if each event out of view had one of its own, which is the most that there can be: in a replay
// that is faster than the day more of them meet within a second. thin and views are what the sessions of the two modes
// have had, who hear the same but for the view.
func (f *TrafficFigures) spread(thin, views *tally, perHour float64) {
	out, badges := thin.events()-views.events(), views.frames[KindBadge]
	if out <= 0 || badges == 0 {
		return
	}
	f.BadgeShare = float64(badges) / float64(out)
	more := float64(max(out-badges, 0)) * perHour / float64(f.Sessions)
	f.FramesPerHour += more
	more *= float64(views.bytes[KindBadge]) / float64(badges)
	f.Kinds[KindBadge] += more
	f.BytesPerHour += more
}
