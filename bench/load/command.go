package load

import "time"

// What a worker is told to do. Each command is answered by a Report with Done, some after a while, and may be followed
// by the next one at once.
const (
	// DoConnect opens connections.
	DoConnect = "connect"
	// DoListen counts deliveries of stamped messages from now on.
	DoListen = "listen"
	// DoAsk asks for objects until DoRest.
	DoAsk = "ask"
	// DoFill stores objects at a server that has none (Redis, memcached).
	DoFill = "fill"
	// DoMark begins a new phase: what was counted before is told, and counted from 0.
	DoMark = "mark"
	// DoRest stops asking, and waits for what is still to come.
	DoRest = "rest"
	// DoClose ends all connections.
	DoClose = "close"
)

// Command is one line to a worker.
type Command struct {
	Do      string   `json:"do"`
	Connect *Connect `json:"connect,omitempty"`
	Ask     *Ask     `json:"ask,omitempty"`
	// Last of DoRest is the number of the last message that was sent; 0 if none are waited for.
	Last int64 `json:"last,omitempty"`
	// PatienceMS of DoRest is how long what is still to come may take.
	PatienceMS int `json:"patience_ms,omitempty"`
}

// The languages that servers are spoken to in.
const (
	Websocket = "websocket"
	Redis     = "redis"
	Memcached = "memcached"
)

// Connect says where to and how fast.
type Connect struct {
	Address string `json:"address"` // host:port
	// Language is Websocket if it is empty.
	Language string `json:"language,omitempty"`
	// Local is the address to connect from; "" leaves it to the system.
	Local string `json:"local,omitempty"`
	// Paths has a path for each connection. If there are fewer, they are used again from the first.
	Paths []string `json:"paths"`
	Count int      `json:"count"`
	// Until is how the frame begins that says: you are in. If it is empty, the upgrade says it.
	Until string `json:"until,omitempty"`
	// Rate is how many connections are opened a second, each at its time, whatever becomes of the others. If it is 0,
	// Parallel are on their way at any time.
	Rate       float64 `json:"rate,omitempty"`
	Parallel   int     `json:"parallel,omitempty"`
	PatienceMS int     `json:"patience_ms"` // of one connection, from when it should have been opened
	// Again lets connections that are turned away come back when the server says, or after a random time if it does not,
	// until their patience is over.
	Again bool `json:"again,omitempty"`
	// Compression is offered, without context takeover: what the server says is inflated as far as it is looked at. Nothing that is
	// sent is compressed.
	Compression bool `json:"compression,omitempty"`
	// Leave ends each connection as soon as it is in.
	Leave bool `json:"leave,omitempty"`
}

// Ask says what to look up.
type Ask struct {
	IDs   []string `json:"ids"`
	Batch int      `json:"batch"` // objects in one query
	Depth int      `json:"depth"` // queries of a connection in the air
	// Rate is queries a second, each at its time; 0 asks again as soon as there is an answer.
	Rate float64 `json:"rate,omitempty"`
	// Bytes is the size of the objects that DoFill stores.
	Bytes int    `json:"bytes,omitempty"`
	Seed  uint64 `json:"seed"`
}

// Counts is what a worker counts.
type Counts struct {
	Opened    int64 `json:"opened,omitempty"`
	Refused   int64 `json:"refused,omitempty"` // connections that did not come to be
	Turned    int64 `json:"turned,omitempty"`  // times that a connection was turned away and is to come back
	Dropped   int64 `json:"dropped,omitempty"` // connections that ended by themselves
	Delivered int64 `json:"delivered,omitempty"`
	Missed    int64 `json:"missed,omitempty"`  // messages that a connection did not get
	Doubled   int64 `json:"doubled,omitempty"` // messages that it got again
	Queries   int64 `json:"queries,omitempty"` // answered rightly
	Objects   int64 `json:"objects,omitempty"`
	Wrong     int64 `json:"wrong,omitempty"` // answers that were not what was asked for
	Bytes     int64 `json:"bytes,omitempty"` // read
}

// Add adds what another one counted.
func (c *Counts) Add(o Counts) {
	c.Opened += o.Opened
	c.Refused += o.Refused
	c.Turned += o.Turned
	c.Dropped += o.Dropped
	c.Delivered += o.Delivered
	c.Missed += o.Missed
	c.Doubled += o.Doubled
	c.Queries += o.Queries
	c.Objects += o.Objects
	c.Wrong += o.Wrong
	c.Bytes += o.Bytes
}

// Errors is everything that should not be.
func (c *Counts) Errors() int64 { return c.Refused + c.Dropped + c.Doubled + c.Wrong }

// Report is one line of a worker: what was counted since the last one.
type Report struct {
	// Done names the command that is through; "" if it is only time to tell.
	Done   string `json:"done,omitempty"`
	Phase  int    `json:"phase"` // DoMark commands so far
	Counts Counts `json:"counts"`
	// Times is a histogram of microseconds in its own encoding, "" if there are none.
	Times string `json:"times,omitempty"`
	// Heard are the numbers of messages that all connections of this worker have by now.
	Heard []int64 `json:"heard,omitempty"`
	// Error is the first thing that went wrong.
	Error string `json:"error,omitempty"`
}

// tickEvery is how often a worker tells what it counted: what a rate over time is drawn from.
const tickEvery = 250 * time.Millisecond
