package query

import (
	"encoding/json"
	"errors"
	"reflect"
	"testing"

	"flannel/protocol"
)

// FuzzQuery sends anything to every endpoint: the answer is a JSON object that says ok, or an error for clients, and it
// never shows what the asker may not see.
func FuzzQuery(f *testing.F) {
	for path := range queries {
		for _, args := range []string{`{}`, `{"updated_ids":{"U0000001":0,"C0000001":5,"parrot":1}}`, `{"channel":"C0000001","users":["U0000001"]}`,
			`{"ids":["S0000001"],"check_membership":true,"check_interaction":1}`, `{"count":2,"filter":"people AND NOT bots","index":"users_by_id","channels":["C0000006"]}`,
			`{"marker":"` + marker{Order: protocol.ByName, Sort: "b", ID: "U0000002"}.String() + `"}`, `{"updated_ids":{"\u0055\n":1e2}}`} {
			f.Add(path, args)
		}
	}
	f.Add("T0000001/users/info", `[`)
	w := newWorld(f)
	w.ask(f, gus, "users/info", `{}`)
	f.Fuzz(func(t *testing.T, path, args string) {
		reply, err := w.service.Query(t.Context(), w.id(gus), path, json.RawMessage(args))
		if err != nil {
			if _, ok := errors.AsType[*protocol.Error](err); !ok || protocol.AsError(err).Code == protocol.CodeInternal {
				t.Fatalf("error %v is not for clients", err)
			}
			return
		}
		var answer struct {
			OK      bool
			Results []struct{ ID string }
		}
		if err := json.Unmarshal(reply.Body, &answer); err != nil || !answer.OK {
			t.Fatalf("answer %s: %v", reply.Body, err)
		}
		for _, r := range answer.Results {
			if r.ID != string(gus) && r.ID != string(bob) && r.ID != string(den) {
				t.Fatalf("a guest was shown %s", r.ID)
			}
		}
	})
}

// FuzzAnswer sends any arguments to every cached method.
func FuzzAnswer(f *testing.F) {
	for method := range methods {
		f.Add(method, "limit=2&cursor=dXNlcjpVMDYxTkZUVDI=&types=im,mpim&channel=C0000006&user=U0000002&users=U0000001,U0000002&team=T0000001")
	}
	f.Add("users.list", "limit=-1")
	w := newWorld(f)
	w.ask(f, gus, "users/info", `{}`)
	f.Fuzz(func(t *testing.T, method, form string) {
		args, err := protocol.ParseArgs("application/x-www-form-urlencoded", []byte(form), nil)
		if err != nil {
			return
		}
		reply, err := w.service.Answer(t.Context(), w.id(gus), method, args, "")
		if err != nil {
			if _, ok := errors.AsType[*protocol.Error](err); !ok && !errors.Is(err, ErrForward) {
				t.Fatalf("error %v is not for clients", err)
			}
			return
		}
		if !json.Valid(reply.Body) {
			t.Fatalf("%s %s: %s", method, form, reply.Body)
		}
	})
}

func FuzzMarker(f *testing.F) {
	f.Add(marker{Order: protocol.ByName, Page: "x", Sort: "ada", ID: "U0000001"}.String())
	f.Add("")
	f.Add("e30")
	f.Add(marker{Order: protocol.ByID, First: firsts{"U0000001", "U0000003"}}.String())
	f.Fuzz(func(t *testing.T, text string) {
		m, err := parseMarker(text)
		if err != nil {
			if protocol.AsError(err).Code != protocol.CodeInvalidCursor {
				t.Fatal(err)
			}
			return
		}
		if text == "" {
			return
		}
		if again, err := parseMarker(m.String()); len(m.String()) <= maxMarker && (err != nil || !reflect.DeepEqual(again, m)) {
			t.Fatalf("round trip of %q: %+v, %v", text, again, err)
		}
	})
}
