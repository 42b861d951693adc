package visibility

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"

	"flannel/protocol"
)

// post asks a node; at is the position that the answer names, 0 for none.
func (w *world) post(address, tok string, body []byte) (answer []byte, at protocol.Position, err error) {
	req, err := http.NewRequest(http.MethodPost, address, bytes.NewReader(body)) //nolint:noctx // The client's timeout bounds it.
	if err != nil {
		return nil, 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+tok)
	resp, err := w.http.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	if answer, err = io.ReadAll(resp.Body); err != nil {
		return nil, 0, err
	}
	p, err := strconv.ParseUint(resp.Header.Get(protocol.HeaderPosition), 10, 64)
	if err != nil {
		p = 0
	}
	return answer, protocol.Position(p), nil
}

// reply is an answer as tests read it.
type reply map[string]any

func (r reply) ok() bool { return r["ok"] == true }

// list returns a field that is a list of objects or strings.
func (r reply) list(name string) []any {
	list, _ := r[name].([]any)
	return list
}

func (r reply) text(name string) string {
	text, _ := r[name].(string)
	return text
}

// ids returns the ids in a list of ids, or of objects with ids.
func (r reply) ids(name string) []string {
	var ids []string
	for _, v := range r.list(name) {
		switch v := v.(type) {
		case string:
			ids = append(ids, v)
		case map[string]any:
			if id, ok := v["id"].(string); ok {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

// next returns the cursor of a page.
func (r reply) next() string {
	meta, _ := r["response_metadata"].(map[string]any)
	return reply(meta).text("next_cursor")
}

// args are what a call says.
type args map[string]any

// pathOf returns where a method is called: methods of the edge's query API have a slash in their name.
func pathOf(a *account, method string) string {
	if strings.Contains(method, "/") {
		return "/cache/" + string(a.team) + "/" + method
	}
	return "/api/" + method
}

// ask asks a node on behalf of somebody and keeps the answer for the judge. access is the row that it counts for.
func (w *world) ask(n *edge, a *account, access, method string, in args) reply {
	if in == nil {
		in = args{}
	}
	body := protocol.MustMarshal(in)
	tok, name := a.credentials()
	from := n.known()
	answer, _, err := w.post(n.url()+pathOf(a, method), tok, body)
	if err != nil {
		w.t.Errorf("%s for %s: %v", method, a.id, err)
		return reply{}
	}
	w.tape.answered(&record{who: a, token: name, access: access, what: method, asked: string(body), body: answer, from: from})
	var r reply
	if err := json.Unmarshal(answer, &r); err != nil {
		w.t.Errorf("%s for %s: %v in %.200q", method, a.id, err, answer)
	}
	return r
}
