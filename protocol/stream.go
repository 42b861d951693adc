package protocol

// Frames of the upstream stream, one JSON object per websocket text frame. A conversation:
//
//	backend  hello        {position, replay_from, heartbeat_ms}
//	edge     subscribe    {topics: [{topic, position} | {topic, seq} | {topic}]}
//	backend  subscribed   {topics: [{topic, seq, position}]}
//	backend  events       {events: [...]}          replayed first, then live; per topic in seq order
//	backend  watermark    {position}               everything up to here on the followed topics has been sent
//	backend  reset        {topics: [{topic, seq, position}]}   the replay of these is gone: drop what they cover
//	edge     report       {present: [...], absent: [...]}      users with and without sessions on this edge
//	edge     publish      {events: [...]}          ephemeral events of clients (typing)
//	edge     unsubscribe  {topics: [{topic}]}
//	either   ping, pong   {id}
//
// A subscription with a position gets every event of the topic above it; with a seq, every event above that; with
// neither, only what comes after "subscribed". The backend sends "subscribed" before the first event of a topic. If it
// cannot replay that far it sends "reset" for the topic instead, and goes on from the seq and position named there.
// A presence topic answers a subscription with one event that tells the present state. Delivery is at least once;
// (topic, seq) makes it exactly once. Both sides close a stream that was silent for three heartbeats.
const (
	StreamHello       = "hello"
	StreamSubscribe   = "subscribe"
	StreamSubscribed  = "subscribed"
	StreamUnsubscribe = "unsubscribe"
	StreamEvents      = "events"
	StreamWatermark   = "watermark"
	StreamReset       = "reset"
	StreamReport      = "report"
	StreamPublish     = "publish"
	StreamPing        = "ping"
	StreamPong        = "pong"
)

// StreamFrame is any frame of the stream; which fields are set depends on Type.
type StreamFrame struct {
	Type   string       `json:"type"`
	Topics []TopicState `json:"topics,omitempty"`
	Events []*Event     `json:"events,omitempty"`
	// Position of hello (the log's end) and watermark.
	Position Position `json:"position,omitempty"`
	// ReplayFrom of hello: subscriptions at or above this position can be replayed. The backend keeps at least 5
	// minutes.
	ReplayFrom  Position `json:"replay_from,omitempty"`
	HeartbeatMS int      `json:"heartbeat_ms,omitempty"`
	Version     int      `json:"version,omitempty"`
	ID          int64    `json:"id,omitempty"`
	Present     []UserID `json:"present,omitempty"`
	Absent      []UserID `json:"absent,omitempty"`
}

// TopicState names a topic and how far it is known.
type TopicState struct {
	Topic Topic `json:"topic"`
	// Seq of the last event known, or nil: a pointer because 0 is a place too (a topic without events).
	Seq *Seq `json:"seq,omitempty"`
	// Position up to which the topic is known, or nil.
	Position *Position `json:"position,omitempty"`
}
