package sqlite

import (
	"fmt"
	"time"

	"flannel/protocol"
)

// AddReaction implements store.Tx.
func (t *writeTx) AddReaction(channel protocol.ChannelID, ts protocol.TS, user protocol.UserID, name string) error {
	if err := t.exec("INSERT INTO reactions (channel, ts, name, user) VALUES (?, ?, ?, ?)", channel, ts, name, user); err != nil {
		return fmt.Errorf("add reaction: %w", err)
	}
	return nil
}

// RemoveReaction implements store.Tx.
func (t *writeTx) RemoveReaction(channel protocol.ChannelID, ts protocol.TS, user protocol.UserID, name string) error {
	return t.must("DELETE FROM reactions WHERE channel = ? AND ts = ? AND name = ? AND user = ?", channel, ts, name, user)
}

// AddPin implements store.Tx.
func (t *writeTx) AddPin(channel protocol.ChannelID, ts protocol.TS, user protocol.UserID, at time.Time) error {
	if err := t.exec("INSERT INTO pins VALUES (?, ?, ?, ?)", channel, ts, user, at.UnixMicro()); err != nil {
		return fmt.Errorf("add pin: %w", err)
	}
	return nil
}

// RemovePin implements store.Tx.
func (t *writeTx) RemovePin(channel protocol.ChannelID, ts protocol.TS) error {
	return t.must("DELETE FROM pins WHERE channel = ? AND ts = ?", channel, ts)
}

// Pins implements store.Reader.
func (r *reader) Pins(channel protocol.ChannelID) ([]protocol.Message, error) {
	stamps, err := list[protocol.TS](r, "SELECT ts FROM pins WHERE channel = ? ORDER BY at DESC, ts DESC", channel)
	if err != nil {
		return nil, err
	}
	all := make([]protocol.Message, 0, len(stamps))
	for _, ts := range stamps {
		m, err := r.Message(channel, ts)
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return all, nil
}
