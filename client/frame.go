package client

import (
	"encoding/json"
	"strconv"
	"time"
	"unicode/utf8"

	"flannel/protocol"
)

// frame is what the server said, with what is needed to pass it on.
type frame struct {
	kind  string // "" for an answer
	reply int64  // id of what it answers; 0 if it is no answer
	topic protocol.Topic
	seq   protocol.Seq
	raw   json.RawMessage
}

// parse reads the envelope of a frame.
func parse(raw []byte) (frame, error) {
	f := frame{raw: raw}
	if !utf8.Valid(raw) || !json.Valid(raw) {
		return f, ErrMalformed
	}
	bad := false
	object := protocol.EachField(raw, func(name, value []byte) bool {
		switch string(name) {
		case "type":
			bad = bad || json.Unmarshal(value, &f.kind) != nil
		case "reply_to":
			f.reply, _ = strconv.ParseInt(string(value), 10, 64) // Ours are numbers; others are not answers to us.
		case "event_id":
			var id string
			if json.Unmarshal(value, &id) == nil {
				if topic, seq, ok := protocol.ParseEventID(id); ok {
					f.topic, f.seq = topic, seq
				}
			}
		}
		return true
	})
	if !object || bad || f.kind == "" && f.reply == 0 {
		return f, ErrMalformed
	}
	return f, nil
}

// answer reports whether the frame answers one of ours.
func (f *frame) answer() bool {
	return f.reply != 0 && (f.kind == "" || f.kind == protocol.FramePong || f.kind == protocol.FrameError)
}

// helloOf reads a hello.
func (f *frame) helloOf() (*protocol.Hello, error) {
	h := new(protocol.Hello)
	if err := json.Unmarshal(f.raw, h); err != nil {
		return nil, ErrMalformed
	}
	return h, nil
}

// errorOf reads the error in an answer or an error frame: of a query by its name, of a message by its code. nil if it
// has none.
func errorOf(raw []byte) error {
	var a struct {
		OK      *bool           `json:"ok"`
		Error   json.RawMessage `json:"error"`
		Message string          `json:"error_message"`
	}
	if err := json.Unmarshal(raw, &a); err != nil {
		return ErrMalformed
	}
	if len(a.Error) == 0 {
		if a.OK != nil && !*a.OK {
			return &protocol.Error{Code: protocol.CodeInternal}
		}
		return nil
	}
	var name protocol.Code
	if json.Unmarshal(a.Error, &name) == nil {
		return &protocol.Error{Code: name, Message: a.Message}
	}
	var e protocol.SocketError
	if json.Unmarshal(a.Error, &e) != nil {
		return ErrMalformed
	}
	return socketError(e)
}

// socketError gives an error of the dialect's sockets the name that it has in the Web API.
func socketError(e protocol.SocketError) *protocol.Error {
	out := &protocol.Error{Message: e.Msg, Retry: time.Duration(e.RetryAfter) * time.Second}
	switch e.Code {
	case protocol.SocketErrTooFast, protocol.SocketErrRateLimited:
		out.Code = protocol.CodeRateLimited
	case protocol.SocketErrTextMissing:
		out.Code = "no_text"
	case protocol.SocketErrMessage:
		out.Code, out.Message = protocol.Code(e.Msg), ""
	default:
		out.Code = protocol.CodeInvalidArgs
	}
	return out
}
