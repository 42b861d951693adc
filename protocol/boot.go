package protocol

// ChannelCounts is one conversation in client.counts. The edge and the backend compose it from the same Membership, so
// both say the same.
type ChannelCounts struct {
	ID             ChannelID `json:"id"`
	LastRead       TS        `json:"last_read"`
	Latest         TS        `json:"latest"`
	Updated        TS        `json:"updated"`
	HistoryInvalid TS        `json:"history_invalid"`
	MentionCount   int       `json:"mention_count"`
	HasUnreads     bool      `json:"has_unreads"`
}

// CountsOf returns the counts of a membership.
func CountsOf(m *Membership) ChannelCounts {
	return ChannelCounts{
		ID: m.Channel, LastRead: m.LastRead.OrZero(), Latest: m.Latest.OrZero(), Updated: m.Latest.OrZero(),
		HistoryInvalid: ZeroTS, MentionCount: m.MentionCount, HasUnreads: m.Latest > m.LastRead,
	}
}
