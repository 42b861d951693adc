package sqlite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"flannel/backend/store"
	"flannel/protocol"
)

// Head implements store.Reader.
func (r *reader) Head(topic protocol.Topic) (seq protocol.Seq, p protocol.Position, err error) {
	err = r.row("SELECT seq, position FROM topics WHERE topic = ?", topic).Scan(&seq, &p)
	if errors.Is(err, store.ErrNotFound) {
		err = nil
	}
	return seq, p, err
}

// Events implements store.Reader.
func (r *reader) Events(after protocol.Position, limit int) ([]*protocol.Event, error) {
	// Whole commits: up to the commit in which the limit falls, to its end.
	var end *protocol.Position
	err := r.row("SELECT max(position) FROM (SELECT position FROM events WHERE position > ? ORDER BY position LIMIT ?)", after, max(limit, 1)).Scan(&end)
	if err != nil || end == nil {
		return nil, err
	}
	return r.events("SELECT body FROM events WHERE position > ? AND position <= ? ORDER BY position, n", after, *end)
}

// TopicEvents implements store.Reader.
func (r *reader) TopicEvents(topic protocol.Topic, after protocol.Seq, limit int) ([]*protocol.Event, error) {
	return r.events("SELECT body FROM events WHERE topic = ? AND seq > ? ORDER BY seq LIMIT ?", topic, after, max(limit, 1))
}

func (r *reader) events(query string, args ...any) (events []*protocol.Event, err error) {
	err = r.each(func(scan func(...any) error) error {
		var body []byte
		if err := scan(&body); err != nil {
			return err
		}
		e := new(protocol.Event)
		if err := json.Unmarshal(body, e); err != nil {
			return fmt.Errorf("decode event: %w", err)
		}
		events = append(events, e)
		return nil
	}, query, args...)
	return events, err
}

// ReplayFrom implements store.Reader.
func (r *reader) ReplayFrom() (p protocol.Position, err error) {
	err = r.row("SELECT value FROM meta WHERE key = 'replay_from'").Scan(&p)
	return p, err
}

// Emit implements store.Tx.
func (t *writeTx) Emit(e *protocol.Event) error {
	if t.load {
		return errors.New("a load emits no events")
	}
	if e.Class == protocol.ClassEphemeral {
		return errors.New("ephemeral events are not kept")
	}
	if t.position == 0 {
		p, err := t.Position()
		if err != nil {
			return err
		}
		t.position = p + 1
		// At once, so that the next Update of the same transaction counts on from here.
		if err := t.exec("UPDATE meta SET value = ? WHERE key = 'position'", t.position); err != nil {
			return err
		}
	}
	e.Position = t.position
	err := t.row("INSERT INTO topics VALUES (?, 1, ?) ON CONFLICT DO UPDATE SET seq = seq + 1, position = excluded.position RETURNING seq", e.Topic, t.position).Scan(&e.Seq)
	if err != nil {
		return fmt.Errorf("next seq of %s: %w", e.Topic, err)
	}
	body, err := protocol.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode event: %w", err)
	}
	t.events = append(t.events, e)
	return t.exec("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)", t.position, len(t.events), e.Topic, e.Seq, t.now.UnixMilli(), string(body))
}

// pruneStep bounds the commits that one transaction of Prune forgets, so that writers never wait long behind it.
const pruneStep = 2000

// Prune implements store.Store. It walks the log from its beginning and stops at the first commit that is young enough,
// so it costs what it deletes, and a clock that was set back only keeps events longer.
func (s *Store) Prune(ctx context.Context, before time.Time) error {
	for more := true; more; {
		_, err := s.Update(ctx, func(tx store.Tx) error {
			t := tx.(*writeTx)
			var err error
			more, err = t.prune(before)
			return err
		})
		if err != nil {
			return fmt.Errorf("prune: %w", err)
		}
	}
	return nil
}

// prune does one step; more says that there may be another.
func (t *writeTx) prune(before time.Time) (more bool, err error) {
	var first, young *protocol.Position
	if err := t.row("SELECT min(position) FROM events").Scan(&first); err != nil || first == nil {
		return false, err
	}
	// The newest position to forget: before the first young commit, at most a step away.
	bound := *first + pruneStep
	if err := t.row("SELECT min(position) FROM events WHERE position >= ? AND position < ? AND at >= ?", *first, bound, before.UnixMilli()).Scan(&young); err != nil {
		return false, err
	}
	if young != nil {
		bound = *young
	}
	if bound == *first {
		return false, nil
	}
	if err := t.exec("DELETE FROM events WHERE position < ?", bound); err != nil {
		return false, err
	}
	p, err := t.Position()
	if err != nil {
		return false, err
	}
	forgotten := min(bound-1, p)
	return young == nil, t.exec("UPDATE meta SET value = max(value, ?) WHERE key = 'replay_from'", forgotten)
}
