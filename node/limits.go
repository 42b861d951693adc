package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Limit is one of the limits that can be changed while the node runs.
type Limit struct {
	// Name is its key in the configuration, without node.
	Name string `json:"name"`
	// Value is what holds now, and Target what it is being raised to; Configured is what the configuration says.
	Value      int `json:"value"`
	Target     int `json:"target"`
	Configured int `json:"configured"`
}

// limits changes the limits of a running node: down at once, and up in even steps, because what was throttled in an incident
// comes back as a storm if it is let in all at once. It is safe for concurrent use.
type limits struct {
	raise time.Duration // how long a rise takes

	mu  sync.Mutex
	all []*limit // sorted by name
}

type limit struct {
	Limit
	step  int // a second, while it rises
	apply func(int) error
}

// newLimits returns the limits of n, all as configured.
func newLimits(n *Node) *limits {
	l := &limits{raise: n.cfg.LimitsRaise}
	add := func(name string, configured int, apply func(int) error) {
		l.all = append(l.all, &limit{Limit: Limit{Name: name, Value: configured, Target: configured, Configured: configured}, apply: apply})
	}
	doors := n.edge.Limits()
	// Called with mu held, so no change gets lost between the two calls.
	door := func(field *int) func(int) error {
		return func(v int) error {
			*field = v
			return n.edge.SetLimits(doors)
		}
	}
	add("edge.max_calls", doors.Calls, door(&doors.Calls))
	add("edge.max_handshakes", doors.Handshakes, door(&doors.Handshakes))
	add("edge.max_sessions", doors.Sessions, door(&doors.Sessions))
	add("edge.open_rate", doors.Opens, door(&doors.Opens))
	add("upstream.boot_concurrency", n.upstream.BootConcurrency(), func(v int) error {
		n.upstream.SetBootConcurrency(v)
		return nil
	})
	return l
}

// list returns all limits, sorted by name.
func (l *limits) list() []Limit {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]Limit, 0, len(l.all))
	for _, one := range l.all {
		all = append(all, one.Limit)
	}
	return all
}

// set changes limits by name: all, or none if one is wrong. What is below the present value holds at once; what is above is
// reached in steps, or with atOnce at once, too.
func (l *limits) set(values map[string]int, atOnce bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for name, v := range values {
		if l.findLocked(name) == nil {
			errs = append(errs, fmt.Errorf("there is no limit %q; the limits are %s", name, strings.Join(l.namesLocked(), ", ")))
		} else if v <= 0 {
			errs = append(errs, fmt.Errorf("%s: must be above 0", name))
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	for name, v := range values {
		one := l.findLocked(name)
		one.Target = v
		if v <= one.Value || atOnce {
			errs = append(errs, one.become(v))
			continue
		}
		steps := max(int(l.raise/time.Second), 1)
		one.step = (v - one.Value + steps - 1) / steps
	}
	return errors.Join(errs...)
}

// configure changes what the configuration says, and the limits to it.
func (l *limits) configure(values map[string]int) error {
	if err := l.set(values, false); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, v := range values {
		l.findLocked(name).Configured = v
	}
	return nil
}

// rise takes one step with every limit that is below its target.
func (l *limits) rise() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for _, one := range l.all {
		if one.Value < one.Target {
			errs = append(errs, one.become(min(one.Value+one.step, one.Target)))
		}
	}
	return errors.Join(errs...)
}

// run takes a step each second until ctx ends.
func (l *limits) run(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := l.rise(); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

func (one *limit) become(v int) error {
	one.Value = v
	return one.apply(v)
}

func (l *limits) findLocked(name string) *limit {
	if i := slices.IndexFunc(l.all, func(one *limit) bool { return one.Name == name }); i >= 0 {
		return l.all[i]
	}
	return nil
}

func (l *limits) namesLocked() []string {
	var names []string
	for _, one := range l.all {
		names = append(names, one.Name)
	}
	return names
}

// maxLimitsForm bounds what a change of limits may say: there are five.
const maxLimitsForm = 4 << 10

// ServeHTTP answers GET with the limits, and changes them with POST: a form of names and values, with at_once=1 without steps.
func (l *limits) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		r.Body = http.MaxBytesReader(w, r.Body, maxLimitsForm)
		if err := r.ParseForm(); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if err := l.setForm(r.Form); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	json.NewEncoder(w).Encode(l.list()) //nolint:errcheck,errchkjson // The client is gone then.
}

func (l *limits) setForm(form url.Values) error {
	values := make(map[string]int)
	atOnce := false
	for name, v := range form {
		if name == "at_once" {
			atOnce = v[0] == "1"
			continue
		}
		n, err := strconv.Atoi(v[0])
		if err != nil {
			return fmt.Errorf("%s: %q is not a number", name, v[0])
		}
		values[name] = n
	}
	return l.set(values, atOnce)
}

// Reconfigure takes over what can be changed while the node runs from a new configuration: the limits, in steps. It returns
// an error, and changes nothing, if the configuration is not valid.
func (n *Node) Reconfigure(cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	doors := cfg.Edge.Limits()
	return n.limits.configure(map[string]int{
		"edge.max_calls": doors.Calls, "edge.max_handshakes": doors.Handshakes, "edge.max_sessions": doors.Sessions, "edge.open_rate": doors.Opens,
		"upstream.boot_concurrency": cfg.Upstream.BootConcurrency,
	})
}
