package webapi

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttputil"

	"flannel/protocol"
)

// serve runs the handler on a listener in memory.
func serve(t *testing.T, w *world) *http.Client {
	t.Helper()
	ln := fasthttputil.NewInmemoryListener()
	server := &fasthttp.Server{Handler: w.api.Handler(), NoDefaultServerHeader: true}
	done := make(chan error, 1)
	go func() { done <- server.Serve(ln) }()
	client := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return ln.Dial() }}}
	t.Cleanup(func() {
		client.CloseIdleConnections()
		if err := ln.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return client
}

func TestHandler_EveryWayToCall(t *testing.T) {
	w := newWorld(t, Limits{})
	w.post(ann, general, "so that there is a position")
	client := serve(t, w)
	tok := w.token(ann)
	const formType = "application/x-www-form-urlencoded"
	multipart := "--x\r\nContent-Disposition: form-data; name=\"token\"\r\n\r\n" + tok + "\r\n--x\r\nContent-Disposition: form-data; name=\"user\"\r\n\r\nU0BEN\r\n--x--\r\n"
	for name, c := range map[string]struct {
		method, path, contentType, body, auth, cookie, origin string
		want                                                  string
	}{
		"GET, query":           {"GET", "/api/users.info?user=U0BEN&token=" + tok, "", "", "", "", "", ""},
		"GET, header":          {"GET", "/api/users.info?user=U0BEN", "", "", "Bearer " + tok, "", "", ""},
		"POST form":            {"POST", "/api/users.info", formType, "user=U0BEN&token=" + tok, "", "", "", ""},
		"POST form, header":    {"POST", "/api/users.info", formType, "user=U0BEN", "Bearer " + tok, "", "", ""},
		"POST JSON":            {"POST", "/api/users.info", "application/json", `{"user":"U0BEN","token":"` + tok + `"}`, "", "", "", ""},
		"POST text/plain":      {"POST", "/api/users.info", "text/plain", `{"user":"U0BEN","token":"` + tok + `"}`, "", "", "", ""},
		"POST multipart":       {"POST", "/api/users.info", "multipart/form-data; boundary=x", multipart, "", "", "", ""},
		"POST, cookie":         {"POST", "/api/users.info", formType, "user=U0BEN", "", "d=" + tok, "", ""},
		"POST, query":          {"POST", "/api/users.info?user=U0BEN&token=" + tok, "", "", "", "", "", ""},
		"trailing slash":       {"POST", "/api/users.info/", formType, "user=U0BEN", "Bearer " + tok, "", "", ""},
		"another site":         {"POST", "/api/users.info", formType, "user=U0BEN", "", "d=" + tok, "https://evil.example", "not_authed"},
		"the same site":        {"POST", "/api/users.info", formType, "user=U0BEN", "", "d=" + tok, "http://backend.example", ""},
		"nobody":               {"POST", "/api/users.info", formType, "user=U0BEN", "", "", "", "not_authed"},
		"unknown":              {"POST", "/api/no.such", formType, "", "", "", "", "unknown_method"},
		"malformed":            {"POST", "/api/users.info", "application/json", "{", "", "", "", "invalid_json"},
		"malformed with token": {"POST", "/api/users.info", "application/json", "{", "Bearer " + tok, "", "", "invalid_json"},
		"malformed, bad token": {"POST", "/api/users.info", "application/json", "{", "Bearer xoxp-x", "", "", "invalid_auth"},
		"api.test":             {"GET", "/api/api.test?foo=bar", "", "", "", "", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			req, err := http.NewRequest(c.method, "http://backend.example"+c.path, strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			for k, v := range map[string]string{"Content-Type": c.contentType, "Authorization": c.auth, "Cookie": c.cookie, "Origin": c.origin} {
				if v != "" {
					req.Header.Set(k, v)
				}
			}
			resp, out := do(t, client, req)
			if resp.StatusCode != 200 || out.str("error") != c.want || resp.Header.Get("Access-Control-Allow-Origin") != "*" {
				t.Errorf("%d %v", resp.StatusCode, out)
			}
			if c.want == "" && strings.Contains(c.path, "users.info") {
				if out.str("user", "id") != "U0BEN" || resp.Header.Get(protocol.HeaderPosition) == "" {
					t.Errorf("%v %v", out, resp.Header)
				}
			}
		})
	}
}

func do(t *testing.T, client *http.Client, req *http.Request) (*http.Response, result) {
	t.Helper()
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var out result
	if err := json.Unmarshal(body, &out); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	if bytes.HasSuffix(body, []byte("\n")) || !strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
		t.Errorf("%q, %s", body[len(body)-1:], resp.Header.Get("Content-Type"))
	}
	return resp, out
}

func TestHandler_RateLimitedTooLarge(t *testing.T) {
	w := newWorld(t, Limits{PerMinute: map[protocol.Tier]int{protocol.Tier2: 4}})
	client := serve(t, w)
	get := func() *http.Response {
		req, err := http.NewRequest("GET", "http://backend.example/api/emoji.list?token="+w.token(ann), nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, _ := do(t, client, req)
		return resp
	}
	if resp := get(); resp.StatusCode != 200 {
		t.Errorf("%d", resp.StatusCode)
	}
	resp := get()
	wait, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if resp.StatusCode != 429 || err != nil || wait < 1 || wait > 15 {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
	req, err := http.NewRequest("POST", "http://backend.example/api/api.test", strings.NewReader(strings.Repeat("x", protocol.MaxBody+1)))
	if err != nil {
		t.Fatal(err)
	}
	if resp, out := do(t, client, req); resp.StatusCode != 200 || out.str("error") != string(protocol.CodeTooLarge) {
		t.Errorf("%d %v", resp.StatusCode, out)
	}
}

func TestHandler_CORSAndOtherMethods(t *testing.T) {
	w := newWorld(t, Limits{})
	client := serve(t, w)
	for method, want := range map[string]int{"OPTIONS": 204, "PUT": 405, "DELETE": 405} {
		req, err := http.NewRequest(method, "http://backend.example/api/users.info", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != want || resp.Header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: %d", method, resp.StatusCode)
		}
		if want == 204 && !strings.Contains(resp.Header.Get("Access-Control-Allow-Headers"), "Authorization") {
			t.Errorf("%v", resp.Header)
		}
	}
}

func TestHandler_RTMStartStreams(t *testing.T) {
	w := newWorld(t, Limits{})
	client := serve(t, w)
	req, err := http.NewRequest("POST", "http://backend.example/api/rtm.start", strings.NewReader("token="+w.token(ann)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, out := do(t, client, req)
	if resp.StatusCode != 200 || len(out.ids("users", "id")) != 6 || !strings.HasPrefix(out.str("url"), "ws://backend.example/") {
		t.Errorf("%d %v", resp.StatusCode, out)
	}
}
