// Package check is the conformance suite of the upstream contract (docs/upstream.md): it asks a backend over plain HTTP
// and a websocket, as an edge would, and says clause by clause what holds. It imports nothing of any backend.
//
// The suite acts as the token's user: it makes one public channel, posts about a hundred short messages to it, changes
// its topic, and archives it at the end. A clause that needs something which an earlier one could not get fails too.
package check

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"flannel/protocol"
)

// Target is the backend to be checked and what is needed to get in.
type Target struct {
	// URL of the upstream listener: scheme and host.
	URL string
	// Key is the service key.
	Key string
	// Token belongs to a full member who may make channels.
	Token string
	// Patience is how long the suite waits for what must come; 5 s if 0.
	Patience time.Duration
}

// Result is what came of one clause.
type Result struct {
	// Name is the clause: the call or the part of the stream, a colon, and what must hold.
	Name string `json:"name"`
	// Failure says what was seen instead; "" if the clause holds.
	Failure string `json:"failure,omitempty"`
	// Hint says what usually is wrong then.
	Hint string `json:"hint,omitempty"`
	// Seconds that the clause took.
	Seconds float64 `json:"seconds"`
}

// OK reports whether the clause holds.
func (r Result) OK() bool { return r.Failure == "" }

// Report is what came of all clauses.
type Report struct {
	URL     string   `json:"url"`
	Version int      `json:"version"` // of the contract
	Results []Result `json:"results"`
}

// Failed counts the clauses that do not hold.
func (r *Report) Failed() int {
	n := 0
	for _, res := range r.Results {
		if !res.OK() {
			n++
		}
	}
	return n
}

// clause is one thing that the contract says.
type clause struct {
	name string
	hint string
	run  func(ctx context.Context, s *suite) error
}

// suite is what the clauses share. They run one after the other.
type suite struct {
	target Target
	base   string // scheme://host
	client *http.Client

	// What earlier clauses found out.
	identity protocol.Identity
	boot     protocol.UserBoot
	channel  protocol.ChannelID
	created  protocol.Position // that made the channel
	position protocol.Position // the highest seen
	nonce    string
	posted   int
}

// clauseTimeout bounds one clause: several waits of Patience.
const clauseTimeout = 10

// Run checks the target and tells progress of each clause as it ends. An error means that there is nothing to check: the
// target's address is no address, or ctx has ended.
func Run(ctx context.Context, target Target, progress func(Result)) (Report, error) {
	report := Report{URL: target.URL, Version: protocol.UpstreamVersion}
	u, err := url.Parse(target.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return report, fmt.Errorf("%q is no address like http://127.0.0.1:8090", target.URL)
	}
	if target.Patience <= 0 {
		target.Patience = 5 * time.Second
	}
	// A transport of its own, so that nothing is left open.
	transport := &http.Transport{MaxIdleConnsPerHost: 4, DisableCompression: true}
	defer transport.CloseIdleConnections()
	s := &suite{
		target: target, base: u.Scheme + "://" + u.Host, nonce: strings.ToLower(rand.Text()[:10]),
		client: &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}
	for _, list := range [][]clause{accessClauses, loadClauses, forwardClauses, streamClauses, effectClauses, replayClauses, finalClauses} {
		for _, c := range list {
			if err := ctx.Err(); err != nil {
				return report, err
			}
			began := time.Now()
			result := Result{Name: c.name}
			if err := s.one(ctx, c); err != nil {
				result.Failure, result.Hint = err.Error(), c.hint
			}
			result.Seconds = time.Since(began).Seconds()
			report.Results = append(report.Results, result)
			if progress != nil {
				progress(result)
			}
		}
	}
	return report, ctx.Err()
}

// one runs a clause within its time.
func (s *suite) one(ctx context.Context, c clause) error {
	ctx, cancel := context.WithTimeout(ctx, clauseTimeout*s.target.Patience)
	defer cancel()
	return c.run(ctx, s)
}

// errNoChannel: the clause that makes the channel failed.
var errNoChannel = errors.New("cannot be checked: no channel could be made")

// errNobody: the clause that identifies the token failed.
var errNobody = errors.New("cannot be checked: the token could not be identified")

// saw remembers the highest position.
func (s *suite) saw(p protocol.Position) { s.position = max(s.position, p) }
