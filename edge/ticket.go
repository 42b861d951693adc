package edge

import (
	"crypto/rand"
	"strings"
	"sync"
	"time"

	"flannel/protocol"
)

// ticket is a right to open one socket. It stands in the path of the address, because slack-go and its descendants
// overwrite the query.
type ticket struct {
	token  string
	params map[string]string
	until  time.Time
}

// tickets is a bounded table. All methods may be called from any goroutine.
type tickets struct {
	life   time.Duration
	max    int
	region Region // nil: there are no sealed tickets
	now    func() time.Time

	mu    sync.Mutex
	all   map[string]ticket    // guarded by mu; at most max
	spent map[string]time.Time // guarded by mu: sealed tickets that were used, until nobody would take them any more; at most max
}

func newTickets(life time.Duration, limit int, region Region, now func() time.Time) *tickets {
	return &tickets{life: life, max: limit, region: region, now: now, all: make(map[string]ticket), spent: make(map[string]time.Time)}
}

// issue returns the name of a new ticket.
func (t *tickets) issue(token string, params map[string]string) (string, error) {
	name := rand.Text()
	params = kept(params)
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.all) >= t.max {
		return "", &protocol.Error{Code: protocol.CodeRateLimited, Message: "too many clients are connecting", Retry: t.life / 10}
	}
	t.all[name] = ticket{token: token, params: params, until: t.now().Add(t.life)}
	return name, nil
}

// sessionParams are the arguments of rtm.connect and rtm.start that a session goes by; maxParam bounds the bytes of one.
// The others, of which a call may have a megabyte, are not kept.
var sessionParams = []string{"flannel", "boot", "lazy_channels", "batch_presence_aware", "no_query_on_subscribe", "exclude_events", "resume", "view"}

const maxParam = 2 << 10

func kept(params map[string]string) map[string]string {
	few := make(map[string]string)
	for _, name := range sessionParams {
		if v, ok := params[name]; ok && len(v) <= maxParam {
			few[name] = strings.Clone(v) // It may be a part of the call's body.
		}
	}
	return few
}

// use takes a ticket out. ok is false if there is none, or if it is too old.
func (t *tickets) use(name string) (ticket, bool) {
	if sealed, ok := strings.CutPrefix(name, sealedPrefix); ok {
		return t.unseal(sealed)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	got, ok := t.all[name]
	delete(t.all, name)
	return got, ok && t.now().Before(got.until)
}

// sweep forgets what is too old.
func (t *tickets) sweep() {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	for name, got := range t.all {
		if !now.Before(got.until) {
			delete(t.all, name)
		}
	}
	for nonce, until := range t.spent {
		if !now.Before(until) {
			delete(t.spent, nonce)
		}
	}
}
