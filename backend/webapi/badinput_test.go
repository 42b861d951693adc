package webapi

import (
	"context"
	"slices"
	"strings"
	"testing"

	"flannel/protocol"
)

// What wrong requests get. Methods' own arguments are in the tests of their methods.
func TestBadInput(t *testing.T) {
	w := newWorld(t, Limits{})
	tok := w.token(ann)
	const (
		formType = "application/x-www-form-urlencoded"
		jsonType = "application/json; charset=utf-8"
	)
	for name, c := range map[string]struct {
		method, contentType, query, body string
		want                             protocol.Code
	}{
		"no method":                 {"", "", "", "", protocol.CodeUnknownMethod},
		"unknown method":            {"users.infos", "", "", "", protocol.CodeUnknownMethod},
		"another case":              {"Users.Info", "", "", "", protocol.CodeUnknownMethod},
		"path in a method":          {"../users.info", "", "", "", protocol.CodeUnknownMethod},
		"malformed JSON":            {"users.info", jsonType, "", `{"user":`, protocol.CodeInvalidJSON},
		"JSON list":                 {"users.info", jsonType, "", `["U0ANN"]`, protocol.CodeJSONNotObject},
		"JSON null":                 {"users.info", jsonType, "", `null`, protocol.CodeJSONNotObject},
		"JSON string":               {"users.info", jsonType, "", `"x"`, protocol.CodeJSONNotObject},
		"bad UTF-8 in JSON":         {"chat.postMessage", jsonType, "", "{\"channel\":\"C0GENERAL\",\"text\":\"\xff\"}", ""}, // encoding/json replaces it
		"bad UTF-8 in a form":       {"chat.postMessage", formType, "", "channel=C0GENERAL&text=%FF", protocol.CodeInvalidCharset},
		"another charset":           {"users.info", "application/json; charset=utf-16", "", `{}`, protocol.CodeInvalidCharset},
		"wrong content type":        {"users.info", "image/png", "", "x", protocol.CodeInvalidPostType},
		"unreadable content type":   {"users.info", ";;;", "", "x", protocol.CodeInvalidPostType},
		"bad escape":                {"users.info", formType, "", "user=%zz", protocol.CodeInvalidForm},
		"bad escape in the query":   {"users.info", "", "user=%zz", "", protocol.CodeInvalidForm},
		"multipart, no boundary":    {"users.info", "multipart/form-data", "", "x", protocol.CodeInvalidForm},
		"multipart, cut off":        {"users.info", "multipart/form-data; boundary=x", "", "--x\r\nContent-Disposition: form-data; name=\"user\"\r\n\r\nU0A", protocol.CodeInvalidForm},
		"too many arguments":        {"users.info", formType, "", manyArgs(300), protocol.CodeInvalidArgs},
		"too large":                 {"users.info", formType, "", strings.Repeat("x", protocol.MaxBody+1), protocol.CodeTooLarge},
		"user is a number":          {"users.info", jsonType, "", `{"user":12}`, protocol.CodeUserNotFound},
		"user is an object":         {"users.info", jsonType, "", `{"user":{"id":"U0ANN"}}`, protocol.CodeUserNotFound},
		"users is an object":        {"users.info", jsonType, "", `{"users":[{"id":"U0ANN"}]}`, protocol.CodeInvalidArgs},
		"absurd id":                 {"users.info", formType, "", "user=" + strings.Repeat("U", 100000), protocol.CodeUserNotFound},
		"id with SQL":               {"users.info", formType, "", "user=U0ANN'--", protocol.CodeUserNotFound},
		"id with NUL":               {"users.info", formType, "", "user=U0ANN%00", protocol.CodeUserNotFound},
		"id of another kind":        {"conversations.info", formType, "", "channel=U0ANN", protocol.CodeChannelNotFound},
		"emoji as a channel":        {"conversations.info", formType, "", "channel=T0OURS/emoji/parrot", protocol.CodeChannelNotFound},
		"negative limit":            {"conversations.members", formType, "", "channel=C0GENERAL&limit=-1", protocol.CodeInvalidLimit},
		"limit is text":             {"conversations.members", formType, "", "channel=C0GENERAL&limit=all", protocol.CodeInvalidLimit},
		"limit overflows":           {"conversations.members", formType, "", "channel=C0GENERAL&limit=99999999999999999999999", protocol.CodeInvalidLimit},
		"limit is a list":           {"conversations.members", jsonType, "", `{"channel":"C0GENERAL","limit":[1]}`, protocol.CodeInvalidLimit},
		"cursor is not base64":      {"conversations.members", formType, "", "channel=C0GENERAL&cursor=%21%21", protocol.CodeInvalidCursor},
		"cursor of another list":    {"conversations.members", formType, "", "channel=C0GENERAL&cursor=dGVhbTpDMDYx", protocol.CodeInvalidCursor},
		"cursor is very long":       {"conversations.members", formType, "", "channel=C0GENERAL&cursor=" + strings.Repeat("A", 100000), protocol.CodeInvalidCursor},
		"text is missing":           {"chat.postMessage", jsonType, "", `{"channel":"C0GENERAL"}`, "no_text"},
		"text is null":              {"chat.postMessage", jsonType, "", `{"channel":"C0GENERAL","text":null}`, "no_text"},
		"deeply nested blocks":      {"chat.postMessage", jsonType, "", `{"channel":"C0GENERAL","text":"x","blocks":` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + `}`, "invalid_blocks"},
		"repeated field, last wins": {"users.info", jsonType, "", `{"user":"U0NONE","user":"U0ANN"}`, ""},
		"body over query":           {"users.info", formType, "user=U0NONE", "user=U0ANN", ""},
		"text/plain with JSON":      {"users.info", "text/plain;charset=UTF-8", "", `{"user":"U0ANN"}`, ""},
		"no content type":           {"users.info", "", "", `{"user":"U0ANN"}`, ""},
		"arguments nobody knows":    {"users.info", formType, "_x_app_name=client", "user=U0ANN&what=ever", ""},
		"multipart":                 {"users.info", "multipart/form-data; boundary=x", "", "--x\r\nContent-Disposition: form-data; name=\"user\"\r\n\r\nU0ANN\r\n--x--\r\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			out := decodeReply(t, w.api.Do(context.Background(), &protocol.Call{
				Method: c.method, Token: tok, ContentType: c.contentType, Query: []byte(c.query), Body: []byte(c.body),
			}))
			if out.str("error") != string(c.want) {
				t.Errorf("%.300v, want %q", out, c.want)
			}
		})
	}
}

func manyArgs(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString("&a" + strings.Repeat("b", i) + "=1")
	}
	return b.String()
}

// Who has no good token learns that, and nothing else.
func TestBadInput_WithoutToken(t *testing.T) {
	w := newWorld(t, Limits{})
	for name := range protocol.Methods {
		if protocol.Methods[name].NoAuth {
			continue
		}
		w.fails("", protocol.CodeNotAuthed, name, "channel", string(general), "user", string(ann))
		out := decodeReply(t, w.api.Do(context.Background(), &protocol.Call{Method: name, Token: "xoxp-x", ContentType: "application/json", Body: []byte("{")}))
		if out.str("error") != string(protocol.CodeInvalidAuth) {
			t.Errorf("%s: %v", name, out)
		}
	}
}

func FuzzDo(f *testing.F) {
	w := newWorld(f, Limits{Off: true})
	names := make([]string, 0, len(protocol.Methods))
	for name := range protocol.Methods {
		if name != "auth.revoke" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	users := []protocol.UserID{ann, gus, ada, bot}
	tokens := make([]string, len(users))
	for i, u := range users {
		tokens[i] = w.token(u)
	}
	ts := w.post(ann, general, "x")
	for i := range names {
		f.Add(uint(i), uint(0), "application/x-www-form-urlencoded", "", "channel=C0GENERAL&user=U0BEN&text=hi&ts="+ts+"&timestamp="+ts+"&name=tada&thread_ts="+ts)
		f.Add(uint(i), uint(2), "application/json", "limit=1", `{"channel":"C0RANDOM","users":["U0ANN","U0BEN"],"name":"x","profile":{"title":"t"},"prefs":{"a":1},"blocks":[{}],"types":"im,mpim","cursor":"dXNlcjpVMQ=="}`)
	}
	f.Add(uint(3), uint(1), "multipart/form-data; boundary=x", "", "--x\r\nContent-Disposition: form-data; name=\"user\"\r\n\r\nU0A\r\n--x--")
	f.Fuzz(func(t *testing.T, method, user uint, contentType, query, body string) {
		r := w.api.Do(context.Background(), &protocol.Call{
			Method: names[method%uint(len(names))], Token: tokens[user%uint(len(tokens))], ContentType: contentType, Query: []byte(query), Body: []byte(body), Host: "http://h",
		})
		if r.Status != 200 {
			t.Fatalf("status %d", r.Status)
		}
		if out := decodeReply(t, r); out.str("error") == string(protocol.CodeInternal) {
			t.Fatalf("%s: %v", names[method%uint(len(names))], out)
		}
	})
}
