package protocol

// Two numbers order everything.
type (
	// Seq counts the events of one topic: it rises by exactly 1 per event, assigned in the transaction that persists
	// the change. A hole is a lost event, a repeat is a duplicate. There is no order across topics. 0 means none:
	// ephemeral events carry no seq.
	Seq uint64
	// Position is a commit's place in the log of a backend shard. All events of one commit share it. Positions become
	// visible in order, so a watermark can say that everything up to here has been sent. 0 means "from nothing".
	Position uint64
	// Version orders the states of one object and is the object's "updated" field: seconds for users, milliseconds for
	// channels. The backend raises it on every change (at least by 1, also within one clock tick), so equal versions
	// mean equal bodies.
	Version int64
)
