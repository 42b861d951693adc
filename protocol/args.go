package protocol

import (
	"bytes"
	"encoding/json"
	"io"
	"math"
	"mime"
	"mime/multipart"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Args are the arguments of a Web API call by name. Strings are kept as they are; from a JSON body, anything that is
// not a string is kept as its JSON text.
type Args map[string]string

const (
	// MaxBody bounds a request body, in bytes: the dialect's largest are messages of 40,000 characters with blocks.
	MaxBody = 1 << 20
	// maxArgs bounds the number of arguments of one call; the largest method of the dialect takes about 30.
	maxArgs = 200
)

// ParseArgs reads the arguments of a call: those of the query first, then those of the body, which win. A body is JSON,
// a form or multipart by its content type; a text/plain or missing type is JSON if it begins with a brace, because
// browsers send edge queries as text/plain to save a preflight. Errors are *Error with the dialect's names.
func ParseArgs(contentType string, query, body []byte) (Args, error) {
	args := make(Args)
	if err := args.addForm(query); err != nil {
		return nil, err
	}
	if len(body) == 0 {
		return args, nil
	}
	if len(body) > MaxBody {
		return nil, Errorf(CodeTooLarge, "the body has %d bytes; the limit is %d", len(body), MaxBody)
	}
	media, params, err := mime.ParseMediaType(contentType)
	if err != nil && contentType != "" {
		return nil, Errorf(CodeInvalidPostType, "cannot read content type %q", contentType)
	}
	if cs := params["charset"]; cs != "" && !strings.EqualFold(cs, "utf-8") && !strings.EqualFold(cs, "utf8") && !strings.EqualFold(cs, "us-ascii") {
		return nil, Errorf(CodeInvalidCharset, "charset %q is not UTF-8", cs)
	}
	switch media {
	case "application/json":
		return args, args.addJSON(body)
	case "application/x-www-form-urlencoded":
		return args, args.addForm(body)
	case "multipart/form-data":
		return args, args.addMultipart(body, params["boundary"])
	case "", "text/plain":
		if trimmed := bytes.TrimSpace(body); len(trimmed) > 0 && trimmed[0] == '{' {
			return args, args.addJSON(body)
		}
		return args, args.addForm(body)
	default:
		return nil, Errorf(CodeInvalidPostType, "content type %q is not one of application/json, application/x-www-form-urlencoded, multipart/form-data", media)
	}
}

func (a Args) add(name, value string) error {
	if !utf8.ValidString(name) || !utf8.ValidString(value) {
		return Errorf(CodeInvalidCharset, "argument is not UTF-8")
	}
	if _, seen := a[name]; !seen && len(a) >= maxArgs {
		return Errorf(CodeInvalidArgs, "more than %d arguments", maxArgs)
	}
	a[name] = value
	return nil
}

func (a Args) addForm(form []byte) error {
	for len(form) > 0 {
		var pair []byte
		pair, form, _ = bytes.Cut(form, []byte("&"))
		if len(pair) == 0 {
			continue
		}
		k, v, _ := bytes.Cut(pair, []byte("="))
		name, err := url.QueryUnescape(string(k))
		if err != nil {
			return Errorf(CodeInvalidForm, "bad escape in a name")
		}
		value, err := url.QueryUnescape(string(v))
		if err != nil {
			return Errorf(CodeInvalidForm, "bad escape in %q", name)
		}
		if err := a.add(name, value); err != nil {
			return err
		}
	}
	return nil
}

func (a Args) addJSON(body []byte) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil {
		if json.Valid(body) {
			return Errorf(CodeJSONNotObject, "the body is JSON, but not an object")
		}
		return Errorf(CodeInvalidJSON, "the body is not JSON")
	}
	if fields == nil { // null
		return Errorf(CodeJSONNotObject, "the body is JSON, but not an object")
	}
	for name, raw := range fields {
		value := string(raw)
		switch {
		case value == "null":
			continue
		case value[0] == '"':
			if err := json.Unmarshal(raw, &value); err != nil {
				return Errorf(CodeInvalidJSON, "field %q is not a string", name)
			}
		}
		if err := a.add(name, value); err != nil {
			return err
		}
	}
	return nil
}

func (a Args) addMultipart(body []byte, boundary string) error {
	if boundary == "" {
		return Errorf(CodeInvalidForm, "multipart without a boundary")
	}
	r := multipart.NewReader(bytes.NewReader(body), boundary)
	for {
		part, err := r.NextPart()
		if err == io.EOF { //nolint:errorlint // NextPart returns io.EOF itself.
			return nil
		}
		if err != nil {
			return Errorf(CodeInvalidForm, "the multipart body is damaged")
		}
		value, err := io.ReadAll(part) // Bounded by the body's own limit.
		if err != nil {
			return Errorf(CodeInvalidForm, "the multipart body is damaged")
		}
		if err := a.add(part.FormName(), string(value)); err != nil {
			return err
		}
	}
}

// Bool reads a flag: 1, true, t, yes and on are true in any case, everything else is false; def if it is absent.
func (a Args) Bool(name string, def bool) bool {
	v, ok := a[name]
	if !ok || v == "" {
		return def
	}
	switch strings.ToLower(v) {
	case "1", "true", "t", "yes", "on":
		return true
	default:
		return false
	}
}

// Int reads a whole number; def if it is absent or empty. A value that is no number is an error with CodeInvalidArgs.
func (a Args) Int(name string, def int) (int, error) {
	v, ok := a[name]
	if !ok || v == "" {
		return def, nil
	}
	n, err := strconv.Atoi(strings.TrimSpace(v))
	if err != nil {
		// JavaScript writes large and whole numbers as 1e3 or 5.0.
		if f, ferr := strconv.ParseFloat(v, 64); ferr == nil && f == math.Trunc(f) && math.Abs(f) < 1<<53 {
			return int(f), nil
		}
		return 0, Errorf(CodeInvalidArgs, "%s is not a whole number: %q", name, v)
	}
	return n, nil
}

// List reads a list of strings: a JSON array, or parts between commas. Empty parts are left out.
func (a Args) List(name string) ([]string, error) {
	v := strings.TrimSpace(a[name])
	if strings.HasPrefix(v, "[") {
		var list []string
		if err := json.Unmarshal([]byte(v), &list); err != nil {
			return nil, Errorf(CodeInvalidArgs, "%s is not a list of strings", name)
		}
		return list, nil
	}
	var list []string
	for part := range strings.SplitSeq(v, ",") {
		if part = strings.TrimSpace(part); part != "" {
			list = append(list, part)
		}
	}
	return list, nil
}

// JSON decodes the argument into v. It leaves v alone if the argument is absent or empty.
func (a Args) JSON(name string, v any) error {
	raw := a[name]
	if raw == "" {
		return nil
	}
	if err := json.Unmarshal([]byte(raw), v); err != nil {
		return Errorf(CodeInvalidArgs, "%s has the wrong type", name)
	}
	return nil
}

// Token returns the client's token: from the Authorization header, else the argument "token", else the cookie "d".
// The dialect allows all of them; "" if there is none.
func (a Args) Token(authorization, cookieD string) string {
	if scheme, token, ok := strings.Cut(authorization, " "); ok && strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(token)
	}
	if token := a["token"]; token != "" {
		return token
	}
	if token, err := url.QueryUnescape(cookieD); err == nil && strings.HasPrefix(token, "xox") {
		return token
	}
	return ""
}
