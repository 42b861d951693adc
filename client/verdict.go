package client

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"time"

	"flannel/protocol"
)

// verdict is what to do after a connection, by how it ended.
type verdict struct {
	// fatal: never come back.
	fatal bool
	// forget: do not resume; everything is to be fetched again.
	forget bool
	// renew: with a new token.
	renew bool
	// address is where to go, "" for the usual place.
	address string
	// wait is when, by the server's choice, or at once if now; else the policy says it.
	wait time.Duration
	now  bool
}

// maxWait bounds what a server may ask for, so that a mistake of its does not end a client.
const maxWait = 10 * time.Minute

// judge decides. greeted: there was a hello before, so the address and the token have been right.
func judge(err error, greeted bool) verdict {
	if ce, ok := errors.AsType[*CloseError](err); ok {
		return judgeClose(ce)
	}
	if he, ok := errors.AsType[*HandshakeError](err); ok {
		v := verdict{wait: min(he.Retry, maxWait)}
		switch {
		case he.Status == http.StatusUnauthorized:
			v.renew = true
		case he.Status >= 400 && he.Status < 500 && he.Status != http.StatusTooManyRequests && he.Status != http.StatusRequestTimeout:
			v.fatal = !greeted // A server in the middle of being set up may say anything to those who know better.
		}
		return v
	}
	switch {
	case errors.Is(err, ErrMalformed):
		return verdict{forget: true} // It may have been an event, and would come again.
	case errors.Is(err, errBehind):
		return verdict{now: true}
	}
	return verdict{}
}

func judgeClose(ce *CloseError) verdict {
	v := verdict{wait: min(ce.Retry, maxWait)}
	switch code := ce.Code; {
	case code >= 4000 && code < 4100:
		v.now = true
	case code >= 4200 && code < 4300:
		v.address = ce.URL
		v.now = v.wait == 0
	case code >= 4300 && code < 4400:
		v.renew = true
	case code == protocol.CloseResync:
		// The answer to resume= names what was lost, which is less than everything.
		v.now = v.wait == 0
	case code >= 4400 && code < 4500:
		v.forget = true // Whoever could not take it at once cannot take it again at once.
	case code >= 4500 && code < 4600:
		v.fatal = true
	}
	return v
}

// defaultPolicy holds until the first hello.
var defaultPolicy = protocol.Reconnect{MinMS: 500, MaxMS: 30_000, StableMS: 60_000}

// pause returns how long to wait before the attempt after failures that followed one another, 0 for the first: the
// server's choice, or full jitter below a bound that doubles.
func (v *verdict) pause(policy protocol.Reconnect, failures int) time.Duration {
	switch {
	case v.wait > 0:
		return v.wait + rand.N(v.wait/8+time.Millisecond) // Whole seconds of many clients would meet.
	case v.now && failures == 0:
		return 0
	}
	lowest := time.Duration(max(policy.MinMS, 1)) * time.Millisecond
	highest := max(time.Duration(policy.MaxMS)*time.Millisecond, lowest)
	return rand.N(min(lowest<<min(failures, 20), highest))
}
