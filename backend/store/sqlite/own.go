package sqlite

import (
	"encoding/json"
	"fmt"
	"time"

	"flannel/protocol"
)

// Prefs implements store.Reader.
func (r *reader) Prefs(user protocol.UserID) (json.RawMessage, error) {
	prefs := make(map[string]json.RawMessage)
	err := r.each(func(scan func(...any) error) error {
		var name string
		var value []byte
		if err := scan(&name, &value); err != nil {
			return err
		}
		prefs[name] = value
		return nil
	}, "SELECT name, value FROM prefs WHERE user = ?", user)
	if err != nil {
		return nil, err
	}
	return protocol.Marshal(prefs)
}

// SetPref implements store.Tx.
func (t *writeTx) SetPref(user protocol.UserID, name string, value json.RawMessage) error {
	if !json.Valid(value) { // It would spoil the whole answer of Prefs.
		return fmt.Errorf("preference %q: value is not JSON", name)
	}
	return t.exec("INSERT INTO prefs VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", user, name, string(value))
}

// ManualAway implements store.Reader.
func (r *reader) ManualAway(user protocol.UserID) (yes bool, err error) {
	err = r.row("SELECT EXISTS (SELECT 1 FROM away WHERE user = ?)", user).Scan(&yes)
	return yes, err
}

// SetManualAway implements store.Tx.
func (t *writeTx) SetManualAway(user protocol.UserID, away bool) error {
	if away {
		return t.exec("INSERT OR IGNORE INTO away VALUES (?)", user)
	}
	return t.exec("DELETE FROM away WHERE user = ?", user)
}

// Usergroups implements store.Reader.
func (r *reader) Usergroups(user protocol.UserID) ([]protocol.ObjectID, error) {
	return list[protocol.ObjectID](r, "SELECT usergroup FROM usergroup_members WHERE user = ? ORDER BY usergroup", user)
}

// Revoked implements store.Reader.
func (r *reader) Revoked(token string, user protocol.UserID, issued int64) (yes bool, err error) {
	err = r.row("SELECT EXISTS (SELECT 1 FROM revoked_tokens WHERE token = ?) OR EXISTS (SELECT 1 FROM revoked_users WHERE user = ? AND at >= ?)", token, user, issued).Scan(&yes)
	return yes, err
}

// Revoke implements store.Tx.
func (t *writeTx) Revoke(token string, user protocol.UserID, at time.Time) error {
	if token != "" {
		return t.exec("INSERT OR IGNORE INTO revoked_tokens VALUES (?, ?, ?)", token, user, at.Unix())
	}
	return t.exec("INSERT INTO revoked_users VALUES (?, ?) ON CONFLICT DO UPDATE SET at = max(at, excluded.at)", user, at.Unix())
}
