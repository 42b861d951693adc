package protocol

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

func FuzzDecodeFrame(f *testing.F) {
	for _, s := range []string{`{"id":1,"type":"ping","timestamp":5}`, `{"type":"message","text":"x"}`, `{"id":"a","type":"typing"}`,
		`{"id":null,"type":"x"}`, `{"id":{},"type":"x"}`, `[]`, `null`, ``, `{"type":7}`, `{"type":""}`, "{\"type\":\"\xff\"}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		frame, err := DecodeFrame(raw)
		if err != nil {
			if _, ok := errors.AsType[*Error](err); !ok {
				t.Fatalf("error %v is not for clients", err)
			}
			return
		}
		if frame.Type == "" || len(raw) > MaxFrame || !utf8.Valid(raw) || len(frame.ID) > MaxIDLength {
			t.Fatalf("accepted %q", raw)
		}
		pong, err := EchoPong(frame)
		if err != nil {
			t.Fatal(err)
		}
		back, err := DecodeFrame(pong)
		if errors.Is(err, &Error{Code: CodeTooLarge}) { // pong is a longer word than some types.
			return
		}
		if err != nil || back.Type != FramePong || bytes.HasSuffix(pong, []byte("\n")) {
			t.Fatalf("pong %q: %v", pong, err)
		}
	})
}

func FuzzParseArgs(f *testing.F) {
	f.Add("application/json", []byte("a=b"), []byte(`{"a":1,"b":"x","c":[1],"d":null}`))
	f.Add("application/x-www-form-urlencoded", []byte("token=x"), []byte("a=%20b&c"))
	f.Add("multipart/form-data; boundary=x", []byte(nil), []byte("--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nb\r\n--x--\r\n"))
	f.Add("text/plain;charset=UTF-8", []byte(nil), []byte(`{"updated_ids":{"U1":0}}`))
	f.Add("", []byte("%zz"), []byte("\xff"))
	f.Fuzz(func(t *testing.T, contentType string, query, body []byte) {
		args, err := ParseArgs(contentType, query, body)
		if err != nil {
			if _, ok := errors.AsType[*Error](err); !ok {
				t.Fatalf("error %v is not for clients", err)
			}
			return
		}
		if len(args) > maxArgs {
			t.Fatalf("%d arguments", len(args))
		}
		for name, value := range args {
			if !utf8.ValidString(name) || !utf8.ValidString(value) {
				t.Fatalf("argument %q=%q is not UTF-8", name, value)
			}
			args.Bool(name, false)
			_, _ = args.Int(name, 0)
			_, _ = args.List(name)
		}
	})
}

func FuzzDecodeCursor(f *testing.F) {
	f.Add("dXNlcjpVMDYxTkZUVDI=")
	f.Add("")
	f.Add("====")
	f.Fuzz(func(t *testing.T, cursor string) {
		id, err := DecodeCursor("user", cursor)
		if err != nil {
			if AsError(err).Code != CodeInvalidCursor {
				t.Fatal(err)
			}
			return
		}
		if (id == "") != (cursor == "") {
			t.Fatalf("cursor %q gave id %q", cursor, id)
		}
		if id != "" {
			if again, err := DecodeCursor("user", EncodeCursor("user", id)); len(id) <= MaxIDLength && (err != nil || again != id) {
				t.Fatalf("round trip of %q: %q, %v", id, again, err)
			}
		}
	})
}

// FuzzEachField holds the scanner against encoding/json: on valid objects it finds the same fields.
func FuzzEachField(f *testing.F) {
	for _, s := range []string{`{}`, `{"a":1}`, ` { "a" : "x\"}" , "b" : [1,{"c":null}] } `, `{"a":{}}`, `{`, `{"a"`, `{"a":}`, `[]`, `{"a":1}x`, `{"a":1,}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got := map[string]string{}
		ok := EachField(body, func(name, value []byte) bool {
			var key string
			if json.Unmarshal([]byte(`"`+string(name)+`"`), &key) == nil {
				got[key] = string(value)
			}
			return true
		})
		var want map[string]json.RawMessage
		if json.Unmarshal(body, &want) != nil || want == nil {
			return
		}
		if !ok || len(got) != len(want) {
			t.Fatalf("%q: ok %v, got %v, want %v", body, ok, got, want)
		}
		for k, v := range want {
			if got[k] != string(v) {
				t.Fatalf("%q: field %q is %q, want %q", body, k, got[k], v)
			}
		}
	})
}

func FuzzAppendString(f *testing.F) {
	f.Add("plain")
	f.Add("a\"b\\c<>&\n\x00é\u2028\xff")
	f.Fuzz(func(t *testing.T, s string) {
		if got, want := AppendString(nil, s), MustMarshal(s); !bytes.Equal(got, want) {
			t.Fatalf("%q: %s, want %s", s, got, want)
		}
	})
}

func TestDecodeFrame_BadInputs(t *testing.T) {
	for name, c := range map[string]struct {
		raw  string
		code Code
	}{
		"empty":       {``, CodeInvalidJSON},
		"cut":         {`{"type":"pi`, CodeInvalidJSON},
		"array":       {`[1]`, CodeJSONNotObject},
		"string":      {`"x"`, CodeJSONNotObject},
		"null":        {`null`, CodeInvalidArgs},
		"no type":     {`{"id":1}`, CodeInvalidArgs},
		"typed type":  {`{"type":1}`, CodeJSONNotObject},
		"object id":   {`{"type":"x","id":{}}`, CodeInvalidArgs},
		"array id":    {`{"type":"x","id":[1]}`, CodeInvalidArgs},
		"boolean id":  {`{"type":"x","id":true}`, CodeInvalidArgs},
		"long id":     {`{"type":"x","id":"` + strings.Repeat("9", MaxIDLength) + `"}`, CodeInvalidArgs},
		"bad UTF-8":   {"{\"type\":\"\xff\"}", CodeInvalidCharset},
		"over 16 KiB": {`{"type":"x","text":"` + strings.Repeat("x", MaxFrame) + `"}`, CodeTooLarge},
	} {
		if _, err := DecodeFrame([]byte(c.raw)); AsError(err).Code != c.code {
			t.Errorf("%s: %v, want %s", name, err, c.code)
		}
	}
}

func TestEchoPong(t *testing.T) {
	frame, err := DecodeFrame([]byte(`{"id":3,"type":"ping","timestamp":17,"reply_to":9}`))
	if err != nil {
		t.Fatal(err)
	}
	if pong, err := EchoPong(frame); err != nil || string(pong) != `{"reply_to":3,"timestamp":17,"type":"pong"}` {
		t.Errorf("got %s, %v", pong, err)
	}
	if _, err := EchoPong(ClientFrame{Raw: []byte("x")}); err == nil {
		t.Error("no error for a frame that is no JSON")
	}
}

func TestParseArgs(t *testing.T) {
	many := strings.Repeat("a=1&", 5)
	for i := range maxArgs + 1 {
		many += string(EncodeCursor("k", strings.Repeat("x", i))) + "=1&"
	}
	for name, c := range map[string]struct {
		contentType, query, body string
		want                     Args
		code                     Code
	}{
		"query":                {query: "a=1&b=x+y&&c", want: Args{"a": "1", "b": "x y", "c": ""}},
		"body wins":            {contentType: "application/json", query: "a=1", body: `{"a":"2"}`, want: Args{"a": "2"}},
		"json kinds":           {contentType: "application/json; charset=utf-8", body: `{"a":1.5,"b":true,"c":["x"],"d":null,"e":"\u00e9"}`, want: Args{"a": "1.5", "b": "true", "c": `["x"]`, "e": "é"}},
		"text is json":         {contentType: "text/plain;charset=UTF-8", body: ` {"a":1}`, want: Args{"a": "1"}},
		"text is form":         {contentType: "text/plain", body: `a=1`, want: Args{"a": "1"}},
		"no type":              {body: `{"a":1}`, want: Args{"a": "1"}},
		"form":                 {contentType: "application/x-www-form-urlencoded", body: `a=%3C`, want: Args{"a": "<"}},
		"multipart":            {contentType: "multipart/form-data; boundary=x", body: "--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nb\r\n--x--\r\n", want: Args{"a": "b"}},
		"cut multipart":        {contentType: "multipart/form-data; boundary=x", body: "--x\r\nContent-Disp", code: CodeInvalidForm},
		"cut part":             {contentType: "multipart/form-data; boundary=x", body: "--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nb", code: CodeInvalidForm},
		"no boundary":          {contentType: "multipart/form-data", body: "x", code: CodeInvalidForm},
		"bad escape in name":   {query: "%zz=1", code: CodeInvalidForm},
		"bad escape in value":  {query: "a=%zz", code: CodeInvalidForm},
		"bad form body":        {contentType: "application/x-www-form-urlencoded", body: "a=%", code: CodeInvalidForm},
		"not json":             {contentType: "application/json", body: `{"a"`, code: CodeInvalidJSON},
		"json array":           {contentType: "application/json", body: `[]`, code: CodeJSONNotObject},
		"json null":            {contentType: "application/json", body: `null`, code: CodeJSONNotObject},
		"charset":              {contentType: "application/json; charset=latin1", body: `{}`, code: CodeInvalidCharset},
		"other type":           {contentType: "application/xml", body: `<a/>`, code: CodeInvalidPostType},
		"unreadable type":      {contentType: ";;", body: `{}`, code: CodeInvalidPostType},
		"not utf-8":            {query: "a=%ff", code: CodeInvalidCharset},
		"too many":             {query: many, code: CodeInvalidArgs},
		"body over the limit":  {contentType: "application/json", body: strings.Repeat(" ", MaxBody+1), code: CodeTooLarge},
		"nothing at all is ok": {want: Args{}},
	} {
		args, err := ParseArgs(c.contentType, []byte(c.query), []byte(c.body))
		switch {
		case c.code != "" && AsError(err).Code != c.code:
			t.Errorf("%s: %v, want %s", name, err, c.code)
		case c.code == "" && (err != nil || !reflect.DeepEqual(args, c.want)):
			t.Errorf("%s: %v, %v, want %v", name, args, err, c.want)
		}
	}
}

func TestArgs(t *testing.T) {
	a := Args{"yes": "True", "no": "maybe", "empty": "", "n": " 12", "e": "1e3", "half": "1.5", "word": "x",
		"list": `["a","b"]`, "commas": "a, b,,c", "bad": `[1]`, "obj": `{"U1":5}`, "token": "xoxp-1"}
	if !a.Bool("yes", false) || a.Bool("no", true) || !a.Bool("empty", true) || !a.Bool("absent", true) {
		t.Error("Bool")
	}
	for name, want := range map[string]int{"n": 12, "e": 1000, "absent": 7, "empty": 7} {
		if got, err := a.Int(name, 7); err != nil || got != want {
			t.Errorf("Int %s: %d, %v", name, got, err)
		}
	}
	for _, name := range []string{"half", "word"} {
		if _, err := a.Int(name, 0); AsError(err).Code != CodeInvalidArgs {
			t.Errorf("Int %s: %v", name, err)
		}
	}
	for name, want := range map[string][]string{"list": {"a", "b"}, "commas": {"a", "b", "c"}, "absent": nil} {
		if got, err := a.List(name); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("List %s: %v, %v", name, got, err)
		}
	}
	if _, err := a.List("bad"); AsError(err).Code != CodeInvalidArgs {
		t.Errorf("List bad: %v", err)
	}
	ids := map[string]int{}
	if err := a.JSON("obj", &ids); err != nil || ids["U1"] != 5 {
		t.Errorf("JSON: %v, %v", ids, err)
	}
	if err := a.JSON("absent", &ids); err != nil {
		t.Error(err)
	}
	if err := a.JSON("list", &ids); AsError(err).Code != CodeInvalidArgs {
		t.Errorf("JSON of the wrong type: %v", err)
	}
	for _, c := range []struct {
		args               Args
		header, cookie, to string
	}{{a, "bearer  xoxp-2 ", "xoxd-3", "xoxp-2"}, {a, "Basic x", "xoxd-3", "xoxp-1"}, {nil, "", "xoxd%2D3", "xoxd-3"}, {nil, "", "session", ""}, {nil, "", "%zz", ""}} {
		if got := c.args.Token(c.header, c.cookie); got != c.to {
			t.Errorf("Token(%q, %q) = %q, want %q", c.header, c.cookie, got, c.to)
		}
	}
}
