package load

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"golang.org/x/sys/unix"
)

// loop is a worker's one goroutine: all connections, by readiness. Nothing in it is shared but the descriptor of nudge.
type loop struct {
	tell func(*Report) error

	poll  int // epoll
	timer int // timerfd: when something is due next; epoll's own timeout is too coarse for it
	wake  int // eventfd: there is a command
	armed int64

	byFD map[int]*conn // open ones
	buf  []byte        // what is read, for all connections in turn

	report Report
	times  *Times
	ticked int64 // when the last report was made

	unpacker unpacker

	crowd
}

// crowd is all that ends when the connections do.
type crowd struct {
	conns     []*conn // in the order of their numbers; those that ended stay
	hint      int     // where the last stamp stood
	opening   *opening
	listening bool
	heard     tracker
	asking    *asking
	asks      []byte // questions that go out together
	resting   *resting
	open      int  // connections that are in
	closing   bool // we end them
}

const (
	readBuffer = 256 << 10 // 64 messages of 200 bytes for one connection, many times over
	maxEvents  = 1024
)

func newLoop(tell func(*Report) error) (l *loop, err error) {
	l = &loop{tell: tell, poll: -1, timer: -1, wake: -1, byFD: make(map[int]*conn), buf: make([]byte, readBuffer), times: NewTimes()}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.close())
		}
	}()
	if l.poll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("make an epoll: %w", err)
	}
	if l.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC); err != nil {
		return nil, fmt.Errorf("make a timer: %w", err)
	}
	if l.wake, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		return nil, fmt.Errorf("make an eventfd: %w", err)
	}
	for _, fd := range []int{l.timer, l.wake} {
		if err := unix.EpollCtl(l.poll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}); err != nil {
			return nil, fmt.Errorf("watch a descriptor: %w", err)
		}
	}
	return l, nil
}

// close frees everything. It is called once, when run is over.
func (l *loop) close() (err error) {
	for _, c := range l.byFD {
		unix.Close(c.fd) //nolint:errcheck // The process ends, or the test.
	}
	for _, fd := range []int{l.poll, l.timer, l.wake} {
		if fd >= 0 {
			err = errors.Join(err, unix.Close(fd))
		}
	}
	return err
}

// nudge wakes the loop, from any goroutine.
func (l *loop) nudge() {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	unix.Write(l.wake, one[:]) //nolint:errcheck // Full means that it is awake.
}

// now is the clock of all times here: stamps come from other processes, so it is the wall's.
func now() int64 { return time.Now().UnixNano() }

// run handles commands and connections until there are no more commands.
func (l *loop) run(commands <-chan Command) error {
	events := make([]unix.EpollEvent, maxEvents)
	var drain [8]byte
	l.ticked = now()
	for {
		if err := l.arm(); err != nil {
			return err
		}
		n, err := unix.EpollWait(l.poll, events, -1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for sockets: %w", err)
		}
		for i := range max(n, 0) {
			switch fd := int(events[i].Fd); fd {
			case l.timer:
				unix.Read(l.timer, drain[:]) //nolint:errcheck // It only says that it rang.
				l.armed = 0
			case l.wake:
				unix.Read(l.wake, drain[:]) //nolint:errcheck // As above.
				for more := true; more; {
					select {
					case c, ok := <-commands:
						if !ok {
							return nil
						}
						l.command(&c)
					default:
						more = false
					}
				}
			default:
				if c := l.byFD[fd]; c != nil {
					l.ready(c, events[i].Events)
				}
			}
		}
		at := now()
		l.due(at)
		switch {
		case at-l.ticked >= int64(tickEvery) || l.report.Done != "":
			err = l.flush(at)
		case len(l.report.Heard) > 0:
			// At once, because the next message waits for it, and alone, because a histogram is long.
			err = l.tell(&Report{Phase: l.report.Phase, Heard: l.report.Heard})
			l.report.Heard = l.report.Heard[:0]
		default:
			err = nil
		}
		if err != nil {
			return err
		}
	}
}

// arm sets the timer to when something is due: a tick, or the schedule's next.
func (l *loop) arm() error {
	next := l.ticked + int64(tickEvery)
	if o := l.opening; o != nil {
		next = min(next, o.next())
	}
	if a := l.asking; a != nil && a.every > 0 && !a.resting {
		next = min(next, a.due)
	}
	if next == l.armed {
		return nil
	}
	l.armed = next
	wait := max(next-now(), 1) // 0 would switch it off.
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(wait)}
	if err := unix.TimerfdSettime(l.timer, 0, &spec, nil); err != nil {
		return fmt.Errorf("set the timer: %w", err)
	}
	return nil
}

// due does what the schedules say.
func (l *loop) due(at int64) {
	if l.opening != nil {
		l.openMore(at)
	}
	if l.asking != nil {
		l.askMore(at)
	}
	if l.resting != nil {
		l.restMore(at)
	}
}

// flush tells what was counted.
func (l *loop) flush(at int64) (err error) {
	l.ticked = at
	if l.report.Times, err = l.times.encode(); err != nil {
		return err
	}
	r := l.report
	l.report = Report{Phase: r.Phase}
	return l.tell(&r)
}

// done says that a command is through. The report is made at once, so that no two are in one.
func (l *loop) done(name string) {
	l.report.Done = name
	if err := l.flush(now()); err != nil {
		l.fail("tell what was counted: %v", err)
	}
}

// fail keeps the first thing that went wrong.
func (l *loop) fail(format string, args ...any) {
	if l.report.Error == "" {
		l.report.Error = fmt.Sprintf(format, args...)
	}
}

func (l *loop) command(c *Command) {
	switch c.Do {
	case DoConnect:
		if err := l.connect(c.Connect); err != nil {
			l.fail("%v", err)
			l.done(DoConnect)
		}
	case DoListen:
		l.listening = true
		l.done(DoListen)
	case DoAsk, DoFill:
		l.ask(c.Do, c.Ask)
	case DoMark:
		l.done(DoMark)
		l.report.Phase++
	case DoRest:
		l.rest(c)
	case DoClose:
		l.closeAll()
		l.done(DoClose)
	default:
		l.fail("nobody knows how to %s", c.Do)
		l.done(c.Do)
	}
}

// closeAll ends all connections without a word, as a lost network does. The port is free at once: thousands of ports that
// linger would be missed by the next run.
func (l *loop) closeAll() {
	l.closing = true
	for _, c := range l.conns {
		if c.fd >= 0 {
			unix.SetsockoptLinger(c.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}) //nolint:errcheck // Then it lingers.
			l.end(c, "")
		}
	}
	l.crowd = crowd{} // Not all of the loop: nudge reads of it, whenever it likes.
}

// resting is a DoRest under way.
type resting struct {
	last     int64
	deadline int64
}

func (l *loop) rest(c *Command) {
	if l.asking != nil {
		l.asking.resting = true
	}
	l.resting = &resting{last: c.Last, deadline: now() + int64(c.PatienceMS)*int64(time.Millisecond)}
	l.restMore(now())
}

// restMore ends the rest when everything has come, or patience has gone.
func (l *loop) restMore(at int64) {
	r := l.resting
	waits := l.asking != nil && l.asking.air+len(l.asking.backlog) > 0
	if r.last > 0 && !waits {
		for _, c := range l.conns {
			if c.state == stateIn && c.last < r.last {
				waits = true
				break
			}
		}
	}
	if waits && at < r.deadline {
		return
	}
	if r.last > 0 {
		for _, c := range l.conns {
			l.report.Counts.Missed += max(r.last-c.last, 0)
			c.last = max(c.last, r.last)
		}
	}
	if l.asking != nil {
		if late := l.asking.air + len(l.asking.backlog); late > 0 {
			l.report.Counts.Wrong += int64(late)
			l.fail("%d questions were not answered", late)
		}
		for _, c := range l.conns {
			c.slots, c.head, c.busy = nil, 0, 0
		}
	}
	l.asking, l.resting, l.listening = nil, nil, false
	l.heard = tracker{}
	l.done(DoRest)
}

// deliver takes a frame that is no answer.
func (l *loop) deliver(c *conn, payload []byte, at int64) {
	n, sent, ok := readStamp(payload, &l.hint)
	if !ok {
		return
	}
	counts := &l.report.Counts
	switch {
	case n <= c.last:
		counts.Doubled++
		return
	case n > c.last+1:
		counts.Missed += n - c.last - 1
	}
	c.last = n
	counts.Delivered++
	l.times.Record(at - sent)
	if l.heard.had(n, l.open) {
		l.report.Heard = append(l.report.Heard, n)
	}
}

// mask is a key for a connection's frames: any will do.
func mask() uint32 { return rand.Uint32() | 1 }
