package webapi

import (
	"fmt"
	"strconv"
	"strings"

	"flannel/backend/chat"
	"flannel/backend/store"
	"flannel/protocol"
)

// cursorTS is the kind of cursors in histories: the timestamp of the last message of the page before, without the dot.
const cursorTS = "next_ts"

// historyQuery reads the bounds of a history. The second result is the cursor's timestamp, "" on the first page.
func (q *request) historyQuery(channel protocol.ChannelID, limit int) (store.HistoryQuery, protocol.TS, error) {
	h := store.HistoryQuery{Channel: channel, Inclusive: q.args.Bool("inclusive", false), Limit: limit}
	var ok bool
	if h.Oldest, ok = chat.ParseTS(q.args["oldest"]); !ok {
		return h, "", &protocol.Error{Code: chat.CodeInvalidTSOldest}
	}
	if latest := q.args["latest"]; latest != "now" { // what the dialect's documents give as the default
		if h.Latest, ok = chat.ParseTS(latest); !ok {
			return h, "", &protocol.Error{Code: chat.CodeInvalidTSLatest}
		}
	}
	at, err := protocol.DecodeCursor(cursorTS, q.args["cursor"])
	if err != nil || at == "" {
		return h, "", err
	}
	if len(at) != 16 {
		return h, "", &protocol.Error{Code: protocol.CodeInvalidCursor}
	}
	ts := protocol.TS(at[:10] + "." + at[10:])
	if !ts.Valid() {
		return h, "", &protocol.Error{Code: protocol.CodeInvalidCursor}
	}
	return h, ts, nil
}

func tsCursor(ts protocol.TS) string {
	return protocol.EncodeCursor(cursorTS, strings.Replace(string(ts), ".", "", 1))
}

// shift returns the timestamp n microseconds later; with inclusive bounds, it leaves out the message at ts itself.
func shift(ts protocol.TS, n int64) protocol.TS {
	micros, err := strconv.ParseInt(string(ts[:10]+ts[11:]), 10, 64)
	if err != nil {
		return ts // the form was checked
	}
	micros = max(micros+n, 0)
	return protocol.TS(fmt.Sprintf("%010d.%06d", micros/1e6, micros%1e6))
}

// readable returns a channel whose messages the caller may read: their own channels, and for people the public ones
// that they see. Bots must be in the channel.
func (q *request) readable() (*chat.Place, error) {
	p, err := q.view.Channel(q.channel())
	if err != nil {
		return nil, err
	}
	if p.Membership == nil && q.id.Role == protocol.RoleBot {
		return nil, &protocol.Error{Code: protocol.CodeNotInChannel}
	}
	return p, nil
}

func conversationsHistory(q *request) ([]byte, error) {
	limit, err := q.limit(100)
	if err != nil {
		return nil, err
	}
	have, err := q.cachedMessages()
	if err != nil {
		return nil, err
	}
	a := okAnswer()
	if _, err := q.history(a, limit, have); err != nil {
		return nil, err
	}
	return a.bytes(), nil
}

// history writes a page of the call's channel into a, without those messages that the client has, and returns all of them.
func (q *request) history(a *answer, limit int, have messageVersions) ([]protocol.Message, error) {
	h, cursor, err := q.historyQuery(q.channel(), limit)
	if err != nil {
		return nil, err
	}
	if cursor != "" && (h.Latest == "" || cursor <= h.Latest) {
		h.Latest = cursor
		if h.Inclusive {
			h.Latest = shift(cursor, -1)
		}
	}
	if _, err := q.readable(); err != nil {
		return nil, err
	}
	messages, more, err := q.r.History(h)
	if err != nil {
		return nil, err
	}
	pins, err := q.r.Pins(q.channel())
	if err != nil {
		return nil, err
	}
	if l := q.args["latest"]; l != "" {
		a.val("latest", l)
	}
	if o := q.args["oldest"]; o != "" {
		a.val("oldest", o)
	}
	a.messages(messages, have).val("has_more", more).val("pin_count", len(pins)).
		raw("channel_actions_ts", []byte("null")).val("channel_actions_count", 0)
	endPage(a, messages, more)
	return messages, nil
}

// endPage adds the cursor after the last of messages.
func endPage(a *answer, messages []protocol.Message, more bool) *answer {
	if more && len(messages) > 0 {
		return a.next(tsCursor(messages[len(messages)-1].TS))
	}
	return a.next("")
}

func conversationsReplies(q *request) ([]byte, error) {
	limit, err := q.limit(maxPage)
	if err != nil {
		return nil, err
	}
	h, cursor, err := q.historyQuery(q.channel(), limit)
	if err != nil {
		return nil, err
	}
	if cursor != "" && cursor >= h.Oldest {
		h.Oldest = cursor
		if h.Inclusive {
			h.Oldest = shift(cursor, 1)
		}
	}
	if _, err := q.readable(); err != nil {
		return nil, err
	}
	m, err := q.message(q.args["ts"], chat.CodeThreadNotFound)
	if err != nil {
		return nil, err
	}
	thread := m.TS
	if m.ThreadTS != "" {
		thread = m.ThreadTS
	}
	messages, more, err := q.r.Replies(thread, h)
	if err != nil {
		return nil, err
	}
	if len(messages) > 0 && messages[0].TS == thread && cursor != "" {
		messages = messages[1:] // the parent stands on the first page only
	}
	if len(messages) > limit {
		messages, more = messages[:limit], true
	}
	return endPage(okAnswer().list("messages", encodeMessages(messages)).val("has_more", more), messages, more).bytes(), nil
}

// message returns a message of the call's channel, which the caller may read.
func (q *request) message(at string, missing protocol.Code) (*protocol.Message, error) {
	ts, ok := chat.ParseTS(at)
	if !ok || ts == "" {
		return nil, &protocol.Error{Code: missing}
	}
	m, err := q.r.Message(q.channel(), ts)
	if err != nil {
		return nil, notFound(err, missing)
	}
	return &m, nil
}

func getPermalink(q *request) ([]byte, error) {
	p, err := q.readable()
	if err != nil {
		return nil, err
	}
	m, err := q.message(q.args["message_ts"], chat.CodeMessageNotFound)
	if err != nil {
		return nil, err
	}
	link := q.host() + "/archives/" + string(p.Channel.ID) + "/p" + strings.Replace(string(m.TS), ".", "", 1)
	if m.ThreadTS != "" && m.ThreadTS != m.TS {
		link += "?thread_ts=" + string(m.ThreadTS) + "&cid=" + string(p.Channel.ID)
	}
	return okAnswer().val("channel", p.Channel.ID).val("permalink", link).bytes(), nil
}
