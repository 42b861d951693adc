package rtm

import (
	"crypto/rand"
	"sync"
	"time"

	"flannel/protocol"
)

const (
	// TicketLife is how long the address of a socket is valid: the dialect's 30 s.
	TicketLife = 30 * time.Second
	// reconnectLife is the life of an address in a reconnect_url frame: until two of them later.
	reconnectLife = 2 * reconnectEvery
	// maxTickets bounds the tickets in memory, about 500 bytes each: half a minute of 3,000 connects a second.
	maxTickets = 100_000
)

// ticket is the right to open one socket.
type ticket struct {
	id    protocol.Identity
	host  string // scheme://host
	batch bool
	// since is the position from which the socket is told what happened, unless it is fresh: then from when it opens.
	since   protocol.Position
	fresh   bool
	expires time.Time
}

// tickets holds those that are not used yet. It is safe for concurrent use.
type tickets struct {
	now func() time.Time

	mu   sync.Mutex
	open map[string]ticket
	// swept is when expired tickets were last thrown away.
	swept time.Time
}

func newTickets(now func() time.Time) *tickets {
	return &tickets{now: now, open: make(map[string]ticket)}
}

// issue returns the code of a new ticket.
func (ts *tickets) issue(t ticket, life time.Duration) (string, error) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	now := ts.now()
	if now.Sub(ts.swept) > TicketLife || len(ts.open) >= maxTickets {
		ts.swept = now
		for code, old := range ts.open {
			if !now.Before(old.expires) {
				delete(ts.open, code)
			}
		}
	}
	if len(ts.open) >= maxTickets {
		return "", &protocol.Error{Code: protocol.CodeUnavailable, Message: "too many sockets are being opened", Retry: time.Second}
	}
	t.expires = now.Add(life)
	code := rand.Text() // 130 random bits in letters and digits that paths may have
	ts.open[code] = t
	return code, nil
}

// take uses a ticket up. ok is false if there is none, or if it has expired.
func (ts *tickets) take(code string) (t ticket, ok bool) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t, ok = ts.open[code]
	delete(ts.open, code)
	return t, ok && ts.now().Before(t.expires)
}
