package webapi

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"

	"flannel/backend/chat"
	"flannel/protocol"
)

// A client that has messages from before says which versions it has, in cached_latest_updates of conversations.history: it
// then gets only those that have changed. A page is made of the same messages either way.

// messageVersions are versions by timestamp.
type messageVersions map[protocol.TS]string

// cachedMessages reads what the client has; nil if it did not say so.
func (q *request) cachedMessages() (messageVersions, error) {
	text := q.args["cached_latest_updates"]
	if text == "" {
		return nil, nil
	}
	have := messageVersions{} // null is an empty one.
	if err := json.Unmarshal([]byte(text), &have); err != nil {
		return nil, protocol.Errorf(protocol.CodeInvalidArgs, "cached_latest_updates is not an object of strings")
	}
	if len(have) > maxPage { // No page has more.
		return nil, protocol.Errorf(protocol.CodeInvalidArgs, "cached_latest_updates names more than %d", maxPage)
	}
	if have == nil {
		have = messageVersions{}
	}
	return have, nil
}

// messageVersion returns the version of a message as a client sees it. It looks like a timestamp, as in the dialect, but is
// a sum of the message: reactions, replies and pins change a message too, and none of them leaves a time. Two versions of
// one message are the same once in 10^16.
func messageVersion(encoded []byte) string {
	sum := sha256.Sum256(encoded)
	n := binary.BigEndian.Uint64(sum[:8]) % 1e16
	return fmt.Sprintf("%010d.%06d", n/1e6, n%1e6)
}

// messages writes a page of messages: all of them, or, to a client that has said what it has, those that it does not have
// so, the timestamps of the others, and the versions of all.
func (a *answer) messages(page []protocol.Message, have messageVersions) *answer {
	encoded := encodeMessages(page)
	if have == nil {
		return a.list("messages", encoded)
	}
	changed, unchanged := make([][]byte, 0, len(page)), make([]protocol.TS, 0, len(page))
	versions := make(messageVersions, len(page))
	for i := range page {
		ts, version := page[i].TS, messageVersion(encoded[i])
		versions[ts] = version
		if have[ts] == version {
			unchanged = append(unchanged, ts)
		} else {
			changed = append(changed, encoded[i])
		}
	}
	return a.list("messages", changed).val("unchanged_messages", unchanged).val("latest_updates", versions)
}

func encodeMessages(messages []protocol.Message) [][]byte {
	list := make([][]byte, len(messages))
	for i := range messages {
		list[i] = chat.EncodeMessage(&messages[i])
	}
	return list
}
