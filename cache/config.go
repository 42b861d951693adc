package cache

import (
	"errors"
	"fmt"
	"time"
)

// Config bounds the cache and the age of what it serves.
type Config struct {
	// Bytes bounds the objects: bodies and what surrounds them.
	Bytes int64 `koanf:"bytes"`
	// StaleFor is how long objects are served, marked as stale, while the stream is down.
	StaleFor time.Duration `koanf:"stale_for"`
	// NegativeFor is how long "there is no such object" and "this token is not good" are believed: a token that was tried
	// before it was made is good after that time at the latest. 0 turns it off.
	NegativeFor time.Duration `koanf:"negative_for"`

	// RecentEvents, RecentBytes and RecentFor bound the log of recent events. A load that is older than the log is made
	// again.
	RecentEvents int           `koanf:"recent_events"`
	RecentBytes  int           `koanf:"recent_bytes"`
	RecentFor    time.Duration `koanf:"recent_for"`

	// Users bounds the user states.
	Users int `koanf:"users"`
	// Grace is how long the state of a user without sessions is kept.
	Grace time.Duration `koanf:"grace"`
	// Sets and SetBytes bound the member sets.
	Sets     int `koanf:"sets"`
	SetBytes int `koanf:"set_bytes"`
	// DirectoryBytes bounds the directories, the lists of workspaces' users and channels that searches look through. Those
	// that were not used for longest go first, and a larger one is not kept: the backend searches then.
	DirectoryBytes int `koanf:"directory_bytes"`
	// DirectoryIdle is how long a directory that nobody uses is kept.
	DirectoryIdle time.Duration `koanf:"directory_idle"`
	// Identities bounds the identities; IdentityFor is how long one is believed.
	Identities  int           `koanf:"identities"`
	IdentityFor time.Duration `koanf:"identity_for"`
}

// Default returns the defaults.
func Default() Config {
	return Config{
		Bytes:       256 << 20, // about 200,000 users with full profiles
		StaleFor:    10 * time.Minute,
		NegativeFor: 5 * time.Second, // somebody who looks for what they have just made tries again after that

		RecentEvents: 100_000, // with RecentBytes, more than a minute of a busy node; loads take seconds at most
		RecentBytes:  64 << 20,
		RecentFor:    5 * time.Minute, // what backends keep for replay

		Users:    50_000,           // a node's sessions, one each
		Grace:    15 * time.Minute, // a laptop between two meetings
		Sets:     10_000,
		SetBytes: 256 << 20,

		DirectoryBytes: 256 << 20,        // ten workspaces of 148,170 users
		DirectoryIdle:  30 * time.Minute, // people type a name more often than that, as long as anybody works

		Identities:  100_000, // two clients for each user
		IdentityFor: 15 * time.Minute,
	}
}

// Validate tells every mistake at once.
func (c *Config) Validate() error {
	var errs []error
	for _, n := range []struct {
		name  string
		value int64
	}{
		{"bytes", c.Bytes}, {"recent_events", int64(c.RecentEvents)}, {"recent_bytes", int64(c.RecentBytes)},
		{"users", int64(c.Users)}, {"sets", int64(c.Sets)}, {"set_bytes", int64(c.SetBytes)},
		{"directory_bytes", int64(c.DirectoryBytes)}, {"directory_idle", int64(c.DirectoryIdle)}, {"identities", int64(c.Identities)},
		{"recent_for", int64(c.RecentFor)}, {"identity_for", int64(c.IdentityFor)},
	} {
		if n.value <= 0 {
			errs = append(errs, fmt.Errorf("%s must be above 0", n.name))
		}
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"stale_for", c.StaleFor}, {"negative_for", c.NegativeFor}, {"grace", c.Grace}} {
		if d.value < 0 {
			errs = append(errs, fmt.Errorf("%s must not be below 0", d.name))
		}
	}
	return errors.Join(errs...)
}
