package check

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"flannel/protocol"
)

var forwardClauses = []clause{
	{"forward: a write is done as the client and names its position", "X-Flannel-Position is the commit's place in the log", func(ctx context.Context, s *suite) error {
		if s.identity.User == "" {
			return errNobody
		}
		a, err := s.must(ctx, "conversations.create", url.Values{"name": {"flannel-check-" + s.nonce}})
		if err != nil {
			return err
		}
		var c struct {
			ID protocol.ChannelID `json:"id"`
		}
		if err := json.Unmarshal(a.fields.Channel, &c); err != nil || protocol.KindOf(protocol.ObjectID(c.ID)) != protocol.KindChannel {
			return fmt.Errorf("conversations.create answered channel %s", a.fields.Channel)
		}
		s.channel, s.created = c.ID, a.position
		return nil
	}},
	{"forward: a load at the write's position sees it", "read in one snapshot at at_least or later", func(ctx context.Context, s *suite) error {
		if s.channel == "" {
			return errNoChannel
		}
		var a protocol.ObjectsAnswer
		if err := s.load(ctx, protocol.CallObjects, protocol.ObjectsRequest{IDs: []protocol.ObjectID{protocol.ObjectID(s.channel)}, AtLeast: s.created}, &a); err != nil {
			return err
		}
		if len(a.Objects) != 1 {
			return errors.New("the channel is missing")
		}
		if err := s.envelope(&a.Objects[0]); err != nil {
			return err
		}
		return s.paged(ctx, s.channel)
	}},
	{"forward: body, query and content type are the client's, verbatim", "forms, JSON and multipart mean the same; the query counts too; the token is in X-Flannel-Token", func(ctx context.Context, s *suite) error {
		if s.channel == "" {
			return errNoChannel
		}
		const text = "naïve ☃ + % = ; 日本"
		token := http.Header{protocol.HeaderToken: {s.target.Token}}
		with := func(contentType string) http.Header {
			h := token.Clone()
			if contentType != "" {
				h.Set("Content-Type", contentType)
			}
			return h
		}
		channel := string(s.channel)
		for _, tt := range []struct {
			name, method, body string
			header             http.Header
		}{
			{"form", "chat.postMessage", url.Values{"channel": {channel}, "text": {text}}.Encode(), with("application/x-www-form-urlencoded")},
			{"JSON", "chat.postMessage", string(protocol.MustMarshal(map[string]string{"channel": channel, "text": text})), with("application/json; charset=utf-8")},
			{"multipart", "chat.postMessage", "--b\r\nContent-Disposition: form-data; name=\"channel\"\r\n\r\n" + channel + "\r\n--b\r\nContent-Disposition: form-data; name=\"text\"\r\n\r\n" + text + "\r\n--b--\r\n", with("multipart/form-data; boundary=b")},
			{"query", "chat.postMessage?" + url.Values{"channel": {channel}, "text": {text}}.Encode(), "", with("")},
		} {
			a, err := s.forwardRaw(ctx, tt.method, []byte(tt.body), tt.header)
			if err != nil {
				return fmt.Errorf("%s: %w", tt.name, err)
			}
			if !a.fields.OK || a.fields.Message.Text != text {
				return fmt.Errorf("%s: error %q, text %q; want %q", tt.name, a.fields.Error, a.fields.Message.Text, text)
			}
		}
		return nil
	}},
	{"forward: positions rise", "each write has a later place in the log than the one before it", func(ctx context.Context, s *suite) error {
		if s.channel == "" {
			return errNoChannel
		}
		last := s.position
		for range 3 {
			a, _, err := s.post(ctx)
			if err != nil {
				return err
			}
			if a.position <= last {
				return fmt.Errorf("position %d after %d", a.position, last)
			}
			last = a.position
		}
		return nil
	}},
	{"forward: the client's errors are answers with status 200", "{\"ok\":false,\"error\":…}; statuses other than 200 and 429 say that the call did not get through", func(ctx context.Context, s *suite) error {
		for _, tt := range []struct{ method, token, want string }{
			{"no.suchMethod", s.target.Token, string(protocol.CodeUnknownMethod)},
			{"auth.test", "xoxp-nonsense", string(protocol.CodeInvalidAuth)},
			{"auth.test", "", string(protocol.CodeNotAuthed)},
			{"conversations.info", s.target.Token, string(protocol.CodeChannelNotFound)},
		} {
			h := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
			if tt.token != "" {
				h.Set(protocol.HeaderToken, tt.token)
			}
			a, err := s.forwardRaw(ctx, tt.method, []byte("channel=C0NOSUCHCHANNEL"), h)
			if err != nil {
				return err
			}
			if a.status != http.StatusOK || a.fields.OK || a.fields.Error != tt.want {
				return fmt.Errorf("%s with token %q: status %d, error %q; want 200, %q", tt.method, tt.token, a.status, a.fields.Error, tt.want)
			}
		}
		return nil
	}},
	{"forward: a message sent again with its idempotency key or client_msg_id is one message", "an edge that saw no answer sends chat.postMessage again", func(ctx context.Context, s *suite) error {
		if s.channel == "" {
			return errNoChannel
		}
		form := url.Values{"channel": {string(s.channel)}, "text": {"flannel check " + s.nonce + " once"}}
		for _, how := range []string{"idempotency key", "client_msg_id"} {
			header := http.Header{}
			if how == "client_msg_id" {
				form.Set("client_msg_id", "00000000-0000-4000-8000-"+s.nonce+"00")
			} else {
				header.Set(protocol.HeaderIdempotencyKey, "check-"+s.nonce)
			}
			first, err := s.forward(ctx, "chat.postMessage", form, header)
			if err != nil {
				return err
			}
			second, err := s.forward(ctx, "chat.postMessage", form, header)
			if err != nil {
				return err
			}
			if !first.fields.OK || !second.fields.OK || first.fields.TS != second.fields.TS {
				return fmt.Errorf("%s: ts %q (error %q) and %q (error %q)", how, first.fields.TS, first.fields.Error, second.fields.TS, second.fields.Error)
			}
		}
		return nil
	}},
	{"forward: an address that only edges may use is not reachable without the key", "", func(ctx context.Context, s *suite) error {
		resp, body, err := s.request(ctx, http.MethodPost, protocol.CallForward+"/auth.test", "", nil, http.Header{protocol.HeaderToken: {s.target.Token}})
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusUnauthorized {
			return fmt.Errorf("status %d: %.100s", resp.StatusCode, body)
		}
		return nil
	}},
}

var finalClauses = []clause{
	{"end: the suite's channel is archived, and the list of channels still has it", "archived channels stay in lists, with deleted", func(ctx context.Context, s *suite) error {
		if s.channel == "" {
			return errNoChannel
		}
		if _, err := s.must(ctx, "conversations.archive", url.Values{"channel": {string(s.channel)}}); err != nil {
			return err
		}
		req := protocol.ListRequest{Workspace: s.identity.Workspace, Kind: protocol.KindChannel, Order: protocol.ByName, Limit: protocol.MaxListLimit, AtLeast: s.position}
		for range 200 { // 200,000 channels
			var a protocol.ListAnswer
			if err := s.load(ctx, protocol.CallList, req, &a); err != nil {
				return err
			}
			for _, e := range a.Entries {
				if e.ID == protocol.ObjectID(s.channel) {
					if !e.Deleted {
						return errors.New("the archived channel is listed without deleted")
					}
					return nil
				}
			}
			if req.Cursor = a.NextCursor; req.Cursor == "" {
				break
			}
		}
		return errors.New("the channel is not in the list of channels")
	}},
}
