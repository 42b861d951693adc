package edge

import (
	"bufio"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
)

// outOfFiles is a listener whose first connections cannot be accepted.
type outOfFiles struct {
	net.Listener
	left atomic.Int32
}

func (l *outOfFiles) Accept() (net.Conn, error) {
	if l.left.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	return l.Listener.Accept()
}

// TestDoor_OutlivesAWantOfFiles: the server of fasthttp ends when a connection cannot be accepted, and with it went the node. It
// took a storm above the limit of open files: the one moment in which all clients need the node.
func TestDoor_OutlivesAWantOfFiles(t *testing.T) {
	w := newWorld(t, func(c *Config, w *world) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		short := &outOfFiles{Listener: ln}
		short.left.Store(3)
		w.listener = short
	})
	p := w.hello(w.thinURL("xoxp-ana", ""))
	p.send(`{"type":"ping"}`)
	p.until("pong")
	if n := w.metric("flannel_admission_rejected_total", "files", "connections"); n != 3 {
		t.Errorf("%v are counted", n)
	}
}

// TestDoor_ConnectionsAreBounded: sessions do not count; whoever is above the limit is told when to come back.
func TestDoor_ConnectionsAreBounded(t *testing.T) {
	w := newWorld(t, func(c *Config, _ *world) { c.MaxConnections = 3 })
	for range 5 { // Each is a connection before its upgrade only.
		w.hello(w.thinURL("xoxp-ana", ""))
	}
	eventually(t, "the upgrades are over", func() bool { return w.edge.server.GetOpenConnectionsCount() == 0 })
	idle := []net.Conn{w.rawConn(), w.rawConn(), w.rawConn()}
	eventually(t, "three say nothing", func() bool { return w.edge.server.GetOpenConnectionsCount() == 3 })

	resp, err := http.ReadResponse(bufio.NewReader(w.rawConn()), nil)
	if err != nil || resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Fatalf("the fourth gets %v, %v", resp, err)
	}
	resp.Body.Close()
	if n := w.metric("flannel_admission_rejected_total", "full", "connections"); n != 1 {
		t.Errorf("%v are counted", n)
	}

	idle[0].Close()
	eventually(t, "there is room", func() bool { return w.edge.server.GetOpenConnectionsCount() == 2 })
	w.hello(w.thinURL("xoxp-ana", ""))
}
