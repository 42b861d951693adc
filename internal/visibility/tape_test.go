package visibility

import (
	"sync"

	"flannel/protocol"
)

// record is one answer or one frame as it came, and what is needed to judge it later.
type record struct {
	who    *account
	token  string // the name of the token that it was for
	access string // the row of the table that it counts for
	what   string // method or type of the frame
	asked  string // what the client said: ids in it are no news to it
	body   []byte
	// from and to bound the positions as of which it was made.
	from, to protocol.Position
	// session is whose frame it is; nil for answers over HTTP.
	session *session
}

// tape keeps records in the order in which they came.
type tape struct {
	position func() protocol.Position

	mu      sync.Mutex
	records []*record
	// waiting are frames that have come and have no upper bound yet. One look at the store serves all of them.
	waiting  []*record
	stamping bool
	idle     sync.Cond
}

// answered keeps an answer; it is complete but for its upper bound.
func (t *tape) answered(r *record) {
	r.to = t.position()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.records = append(t.records, r)
}

// came keeps a frame. It does not wait for the store.
func (t *tape) came(r *record) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.waiting = append(t.waiting, r)
	if !t.stamping {
		t.stamping = true
		go t.stamp()
	}
}

// stamp bounds what waits, until nothing does.
func (t *tape) stamp() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.waiting) > 0 {
		batch := t.waiting
		t.waiting = nil
		t.mu.Unlock()
		to := t.position()
		t.mu.Lock()
		for _, r := range batch {
			r.to = to
		}
		t.records = append(t.records, batch...)
	}
	t.stamping = false
	t.idle.Broadcast()
}

// cut returns what was kept since the last cut.
func (t *tape) cut() []*record {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.idle.L == nil {
		t.idle.L = &t.mu
	}
	for t.stamping {
		t.idle.Wait()
	}
	all := t.records
	t.records = nil
	return all
}
