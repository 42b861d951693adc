package reference

import (
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/fasthttp/websocket"
)

func TestServer_BootAskHear(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		_ = New(Config{IDs: []string{"U1", "U2"}, ObjectBytes: 716, BootBytes: 1000}).Serve(ln)
	})
	defer serving.Wait()
	defer ln.Close()
	conn, _, err := websocket.DefaultDialer.Dial("ws://"+ln.Addr().String()+"/?boot=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	next := func(prefix string) string {
		t.Helper()
		_, body, err := conn.ReadMessage()
		if err != nil || !strings.HasPrefix(string(body), prefix) {
			t.Fatalf("%s, %v; want %s", body, err, prefix)
		}
		return string(body)
	}
	next(`{"type":"hello"`)
	if boot := next(`{"type":"boot"`); len(boot) < 1000 {
		t.Errorf("a boot of %d bytes", len(boot))
	}
	next(`{"type":"counts"`)
	if err := conn.WriteMessage(websocket.TextMessage, []byte(`{"id":7,"type":"query","args":{"updated_ids":{"U2":0,"U3":0,"U1":0}}}`)); err != nil {
		t.Fatal(err)
	}
	answer := next(`{"reply_to":7,"ok":true,"results":[{"id":"U2"`)
	if len(answer) < 2*716 || len(answer) > 2*716+50 || !strings.Contains(answer, `},{"id":"U1"`) {
		t.Errorf("%d bytes: %s", len(answer), answer)
	}
	resp, err := http.Post("http://"+ln.Addr().String()+"/publish", "application/json", strings.NewReader(`{"type":"message"}`))
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp, err)
	}
	resp.Body.Close()
	next(`{"type":"message"}`)
}
