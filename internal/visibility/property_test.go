package visibility

import (
	"math/rand/v2"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"flannel/protocol"
)

// TestVisibility lets everything change at random while everybody reads and listens, and judges every answer and every
// frame; then, when all is quiet, everybody reads everything. See the package's comment.
func TestVisibility(t *testing.T) {
	from := *seed
	if from == 0 {
		from = uint64(time.Now().UnixNano() / int64(24*time.Hour))
	}
	w := newWorld(t)
	p := &play{w: w, rng: rand.New(rand.NewPCG(from, 0)), tally: newTally()}
	began := time.Now()
	n := 0
	for ; n < *rounds || *rounds == 0 && time.Since(began) < 15*time.Second; n++ {
		p.round(uint64(n) + from<<20)
		if len(p.tally.faults) > 0 {
			break
		}
	}
	p.end()
	all := p.tally.sum()
	t.Logf("seed %d, %d rounds, %d positions: %d checks, %d leaks, %d wrongly hidden\n%s", from, n, w.ledger.head-w.ledger.start, all.checks, all.leaks, all.hidden, p.tally)
	for _, f := range p.tally.faults {
		t.Error(f)
	}
	if p.tally.more > 0 {
		t.Errorf("and %d more", p.tally.more)
	}
	if empty := p.tally.empty(); len(empty) > 0 {
		t.Errorf("nothing was checked of %v", empty)
	}
}

// play is a run of rounds.
type play struct {
	w     *world
	rng   *rand.Rand
	tally *tally

	mu       sync.Mutex
	sessions []*session // open, or ended by the server
}

// round changes, reads and listens, then waits until all is quiet, and judges.
func (p *play) round(seed uint64) {
	w := p.w
	p.admit()
	since := w.ledger.head
	var writers, others sync.WaitGroup
	var left atomic.Int64
	left.Store(int64(*changes))
	for i := range uint64(3) {
		writers.Go(func() {
			rng := rand.New(rand.NewPCG(seed, 100+i))
			for left.Add(-1) >= 0 {
				w.change(rng)
			}
		})
	}
	over := make(chan struct{})
	for i := range uint64(3) {
		others.Go(func() { p.readUntil(over, rand.New(rand.NewPCG(seed, 200+i))) })
	}
	others.Go(func() { p.cutUntil(over, rand.New(rand.NewPCG(seed, 300))) })
	others.Go(func() { p.pingUntil(over) })
	writers.Wait()
	close(over)
	others.Wait()
	p.quiet()
	j := &judge{w.ledger, p.tally}
	records := w.tape.cut()
	w.ledger.update()
	if err := w.ledger.checkRows(); err != nil {
		p.tally.fault("ORACLE %v", err)
	}
	j.all(records)
	j.complete(p.open(), since)
	p.sweep(j, seed)
}

// quiet waits until the nodes have heard everything, and the sessions all that the nodes had for them.
func (p *play) quiet() {
	p.w.settle()
	for _, s := range p.open() {
		s.sync()
	}
}

// open lists the sessions that have not ended.
func (p *play) open() []*session {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []*session
	for _, s := range p.sessions {
		select {
		case <-s.ended:
		default:
			list = append(list, s)
		}
	}
	p.sessions = list
	return append([]*session(nil), list...)
}

// admit lets everybody have a session or two: one at each node, if they are let in.
func (p *play) admit() {
	has := make(map[protocol.UserID]int)
	for _, s := range p.open() {
		has[s.a.id]++
	}
	for i, a := range p.w.people[1:] {
		for n := has[a.id]; n < 2; n++ {
			p.begin(p.w.nodes[(i+n)%2], a, mode(p.rng.IntN(3)), nil, p.rng)
		}
	}
}

// begin opens a session, if the account is let in.
func (p *play) begin(n *edge, a *account, m mode, before *session, rng *rand.Rand) {
	params := url.Values{}
	if m != compatible && rng.IntN(2) == 0 && before == nil {
		params.Set("boot", "1")
	}
	if m == viewing {
		params.Set("view", string(pickOne(stage, rng.Uint64()).id))
	}
	s := p.w.open(n, a, m, before, params)
	if s == nil {
		return
	}
	if rng.IntN(2) == 0 {
		s.say(args{"type": "presence_sub", "ids": p.w.everybody()})
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sessions = append(p.sessions, s)
}

// readUntil reads at random until over.
func (p *play) readUntil(over <-chan struct{}, rng *rand.Rand) {
	w := p.w
	rooms := w.rooms()
	for i := 0; ; i++ {
		select {
		case <-over:
			return
		default:
		}
		if i%20 == 19 {
			rooms = w.rooms()
		}
		if open := p.open(); rng.IntN(2) == 0 && len(open) > 0 {
			s := pickOne(open, rng.Uint64())
			w.anyRead(rng, s.a, s.asker(), rooms)
			continue
		}
		a := w.of(w.anybody(rng))
		w.anyRead(rng, a, w.overHTTP(pickOne(w.nodes, rng.Uint64()), a), rooms)
	}
}

// cutUntil cuts sockets and lets them come back a little later, at the same node or the other; and lets people type.
func (p *play) cutUntil(over <-chan struct{}, rng *rand.Rand) {
	tick := time.NewTicker(15 * time.Millisecond)
	defer tick.Stop()
	var away []*session
	back := func() {
		s, before := away[0], away[0]
		away = away[1:]
		if s.mode == compatible || rng.IntN(5) == 0 {
			before = nil
		}
		p.begin(pickOne(p.w.nodes, rng.Uint64()), s.a, s.mode, before, rng)
	}
	for {
		select {
		case <-over:
			for len(away) > 0 {
				back()
			}
			return
		case <-tick.C:
		}
		open := p.open()
		if len(open) == 0 {
			continue
		}
		s := pickOne(open, rng.Uint64())
		if rng.IntN(4) == 0 {
			s.say(args{"type": "typing", "channel": pickOne(stage, rng.Uint64()).id})
			continue
		}
		s.close()
		if away = append(away, s); len(away) > 5 { // The longer they are away, the more they have missed.
			back()
		}
	}
}

// pingUntil keeps the sessions' lower bounds near the present.
func (p *play) pingUntil(over <-chan struct{}) {
	tick := time.NewTicker(60 * time.Millisecond) // Far below what a session may send.
	defer tick.Stop()
	for {
		select {
		case <-over:
			return
		case <-tick.C:
		}
		for _, s := range p.open() {
			s.ping()
		}
	}
}

// sweep reads everything as everybody. Nobody changes anything meanwhile.
func (p *play) sweep(j *judge, seed uint64) {
	w := p.w
	sockets := make(map[protocol.UserID]*session)
	for _, s := range p.open() {
		if s.mode != compatible {
			sockets[s.a.id] = s
		}
	}
	for i, a := range w.people[1:] {
		rng := rand.New(rand.NewPCG(seed, 400+uint64(i)))
		n := w.nodes[(i+int(seed))%2]
		sw := sweep{judge: j, w: w, a: a, ask: patient(w.overHTTP(n, a)), rng: rng, how: "over HTTP"}
		if s := sockets[a.id]; s != nil && rng.IntN(2) == 0 {
			sw.ask, sw.how = patient(s.asker()), "over a "+s.String()
		}
		sw.everything()
		if s := sockets[a.id]; s != nil && rng.IntN(3) == 0 {
			sees := sw.users(sw.seesUser)
			missing := s.askPresence(sees)
			for _, u := range sees {
				j.t.expect(rowPresence, sw.column(), !slices.Contains(missing, u), "the presence of %s does not come to %s", u, s)
			}
		}
	}
	j.all(w.tape.cut())
	w.ledger.update() // A look may have been the first of somebody: nothing but presence comes of it.
}

// end closes what is open.
func (p *play) end() {
	for _, s := range p.open() {
		s.close()
	}
}
