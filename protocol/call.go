package protocol

import "io"

// Call is a Web API request as it stands on the wire, before anybody has decided who answers it.
type Call struct {
	Method      string
	Token       string // where Args.Token found it
	ContentType string
	Query       []byte
	Body        []byte
	// IdempotencyKey makes a write safe to send again; "" if the edge did not set one.
	IdempotencyKey string
	// Remote is the client's address, for logs only.
	Remote string
	// Host is scheme://host of the server that the client called, for answers that carry an address.
	Host string
}

// Reply is the answer to a Call. Exactly one of Body and Stream is set; who takes the Reply closes Stream.
type Reply struct {
	Status     int // 200 or 429
	RetryAfter int // seconds, with 429
	Body       []byte
	Stream     io.ReadCloser
	// Position that a write produced, or that a read was answered at; 0 if unknown.
	Position Position
	// Stale: the answer may be older than the staleness bound; Age in seconds.
	Stale bool
	Age   int
}

// ErrorBody returns the dialect's {"ok":false,"error":…} for e.
func ErrorBody(e *Error) []byte {
	return MustMarshal(struct {
		OK      bool   `json:"ok"`
		Error   Code   `json:"error"`
		Message string `json:"error_message,omitempty"`
	}{Error: e.Code, Message: e.Message})
}
