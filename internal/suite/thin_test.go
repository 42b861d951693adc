package suite_test

import (
	"fmt"
	"maps"
	"net/url"
	"strings"
	"testing"
	"time"
)

// thin opens a thin socket as client.getWebSocketURL tells it to.
func thin(t *testing.T, w *world, a account, params url.Values) *socket {
	t.Helper()
	_, _, answer := call(t, w.edgeURL(), "client.getWebSocketURL", a.token, nil)
	address, _ := answer["primary_websocket_url"].(string)
	if answer["ok"] != true || address == "" || answer["ttl_seconds"] == nil || answer["routing_context"] == nil {
		t.Fatalf("client.getWebSocketURL gives %v", answer)
	}
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set("token", a.token)
	q.Set("flannel", "3")
	q.Set("lazy_channels", "1")
	q.Set("batch_presence_aware", "1")
	maps.Copy(q, params)
	u.RawQuery = q.Encode()
	return dial(t, u.String(), nil)
}

func TestThin_BootComesBeforeEvents(t *testing.T) {
	w := newWorld(t, 12)
	s := thin(t, w, w.member(0), url.Values{"boot": {"1"}})

	var order []string
	for len(order) < 3 {
		f := s.until("the boot", func(map[string]any) bool { return true })
		order = append(order, fmt.Sprint(f["type"]))
	}

	if strings.Join(order, " ") != "hello boot counts" {
		t.Errorf("the first frames are %v", order)
	}
}

func TestThin_QueriesOnTheSocketAndOverHTTP(t *testing.T) {
	w := newWorld(t, 12)
	s := thin(t, w, w.member(0), nil)
	one, two := string(w.member(1).id), string(w.member(2).id)
	channel := general(t, client(w.edgeURL(), w.member(0)))
	ask := func(method string, args map[string]any) (overSocket, overHTTP map[string]any) {
		t.Helper()
		id := float64(time.Now().UnixNano() % 1e9)
		s.send(map[string]any{"id": id, "type": "query", "method": method, "args": args})
		overSocket = s.until("the answer to "+method, func(f map[string]any) bool { return f["reply_to"] == id })
		delete(overSocket, "reply_to")
		return overSocket, query(t, w, method, w.member(0), args)
	}
	for _, c := range []struct {
		method string
		args   map[string]any
		claim  func(map[string]any) bool
	}{
		{"users/info", map[string]any{"updated_ids": map[string]any{one: 0, two: 0, "U0NOBODY0": 0}}, func(a map[string]any) bool {
			return len(a["results"].([]any)) == 2 && len(a["failed_ids"].([]any)) == 1
		}},
		{"channels/info", map[string]any{"updated_ids": map[string]any{channel: 0}, "check_membership": true}, func(a map[string]any) bool {
			return len(a["results"].([]any)) == 1 && len(a["member_channels"].([]any)) == 1
		}},
		{"channels/membership", map[string]any{"channel": channel, "users": []string{one, string(w.guest().id)}}, func(a map[string]any) bool {
			return len(a["members"].([]any)) == 1 && len(a["non_members"].([]any)) == 1
		}},
		{"users/list", map[string]any{"count": 5, "filter": "people AND NOT guests"}, func(a map[string]any) bool {
			return len(a["results"].([]any)) == 5 && a["next_marker"] != ""
		}},
		{"no/such", map[string]any{}, func(a map[string]any) bool { return a["ok"] == false && a["error"] == "unknown_method" }},
		{"users/list", map[string]any{"filter": "people AND ("}, func(a map[string]any) bool { return a["ok"] == false }},
	} {
		socket, http := ask(c.method, c.args)
		if !c.claim(socket) || !c.claim(http) {
			t.Errorf("%s %v:\nsocket %s\n  http %s", c.method, c.args, text(socket), text(http))
		}
	}
}

func TestThin_AllCurrentCostsNothing(t *testing.T) {
	w := newWorld(t, 12)
	one := string(w.member(1).id)
	first := query(t, w, "users/info", w.member(0), map[string]any{"updated_ids": map[string]any{one: 0}})
	version := first["results"].([]any)[0].(map[string]any)["updated"]

	second := query(t, w, "users/info", w.member(0), map[string]any{"updated_ids": map[string]any{one: version}})

	if len(second["results"].([]any)) != 0 || len(second) != 2 {
		t.Errorf("all current gets %s, want {\"results\":[],\"ok\":true}", text(second))
	}
}
