package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/fasthttp/websocket"

	"flannel/protocol"
)

// Errors to compare with errors.Is. What the server refuses is a *protocol.Error, which errors.Is compares by its code;
// how a socket ended is a *CloseError or a *HandshakeError.
var (
	// ErrClosed is what everything returns after Close.
	ErrClosed = errors.New("client is closed")
	// ErrToken: the token is dead, and there is no other.
	ErrToken = errors.New("token is dead")
	// ErrNotFound: the object does not exist, or may not be seen; servers do not tell which.
	ErrNotFound = errors.New("not found")
	// ErrUnacknowledged: the context of Send ended before the server had answered. The message may have been posted;
	// sending it again with the same ClientMsgID cannot post it twice.
	ErrUnacknowledged = errors.New("message is not acknowledged")
	// ErrMalformed: the server sent what is no frame. The connection is given up and everything has to be fetched again,
	// for it may have been an event.
	ErrMalformed = errors.New("malformed frame")
)

// Reasons of ours to give a connection up, as State.Reason shows them.
var (
	errSilent = errors.New("server is silent")
	errBehind = errors.New("events were not taken fast enough")
	errLost   = errors.New("connection is lost") // to those who wait for an answer; they ask again
	// errTooLarge: a frame is over the server's limit of protocol.MaxFrame; it goes over HTTP.
	errTooLarge = errors.New("frame is too large")
)

// CloseError is the server's word on the end of a socket.
type CloseError struct {
	Code protocol.CloseCode
	// Reason is for people: a code's name, or what a proxy wrote.
	Reason string
	// Retry is when to come back, by the server's choice; 0 if it left that to the policy.
	Retry time.Duration
	// URL is where to come back to, if elsewhere.
	URL string
}

// Error implements error.
func (e *CloseError) Error() string {
	return fmt.Sprintf("server closed the connection: %d %s", e.Code, e.Reason)
}

// HandshakeError is an answer to the opening of a socket that is not a socket.
type HandshakeError struct {
	Status int
	// Code is the error's name, if the answer had one.
	Code protocol.Code
	// Retry is when to come back, by the server's choice; 0 if it left that to the policy.
	Retry time.Duration
}

// Error implements error.
func (e *HandshakeError) Error() string {
	return fmt.Sprintf("server refused the connection: %d %s %s", e.Status, http.StatusText(e.Status), e.Code)
}

// closeError turns the end of a read into what the server said by it; other errors stay as they are.
func closeError(err error) error {
	ce, ok := errors.AsType[*websocket.CloseError](err)
	if !ok || ce.Code == websocket.CloseAbnormalClosure {
		return err
	}
	e := &CloseError{Code: protocol.CloseCode(ce.Code)}
	var reason protocol.CloseReason
	if json.Unmarshal([]byte(ce.Text), &reason) == nil {
		e.Reason, e.Retry, e.URL = reason.Reason, time.Duration(reason.RetryMS)*time.Millisecond, reason.URL
	} else {
		e.Reason = ce.Text
	}
	if e.Reason == "" {
		e.Reason = e.Code.String()
	}
	return e
}

// handshakeError turns a refused opening into a HandshakeError. It does not close the answer's body, which the dialer has
// read.
func handshakeError(resp *http.Response, body []byte) error {
	e := &HandshakeError{Status: resp.StatusCode, Retry: retryAfter(resp.Header)}
	var answer struct {
		Error protocol.Code `json:"error"`
	}
	if json.Unmarshal(body, &answer) == nil {
		e.Code = answer.Error
	}
	return e
}

// retryAfter reads the header in its form of seconds, which is the dialect's.
func retryAfter(h http.Header) time.Duration {
	n, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || n < 0 {
		return 0
	}
	return time.Duration(n) * time.Second
}
