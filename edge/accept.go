package edge

import (
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"flannel/protocol"
)

// door is the listener: what would make the server end does not get past it, nor do more connections than it can bear.
type door struct {
	net.Listener
	edge *Edge
	told time.Time // when the log was last told; owned by Accept, which one goroutine calls
}

const (
	// acceptAgain is how long after a failure the next connection is accepted: files come free as sockets close.
	acceptAgain = 10 * time.Millisecond
	// tellEvery is how often the log is told of what happens thousands of times a second.
	tellEvery = time.Minute
)

// passing reports whether the next connection may be accepted though this one was not: accept(2) says so of these. fasthttp
// takes all of them for the end.
func passing(err error) bool {
	for _, errno := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.EPROTO} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// Accept implements net.Listener.
func (d *door) Accept() (net.Conn, error) {
	e := d.edge
	for {
		conn, err := d.Listener.Accept()
		switch {
		case err == nil && int(e.server.GetOpenConnectionsCount()) < e.cfg.MaxConnections:
			return conn, nil
		case err == nil:
			e.metrics.rejected.WithLabelValues(stageConnections, becauseFull).Inc()
			d.tell("connections are turned away: edge.max_connections is reached", nil)
			e.noRoom(conn)
		case !passing(err):
			return nil, err
		default:
			e.metrics.rejected.WithLabelValues(stageConnections, becauseFiles).Inc()
			d.tell("connections cannot be accepted: raise the limit of open files, or lower edge.max_sessions and edge.max_connections", err)
			pause := time.NewTimer(acceptAgain)
			select {
			case <-pause.C:
			case <-e.life.Done():
				pause.Stop()
			}
		}
	}
}

func (d *door) tell(msg string, err error) {
	if now := d.edge.now(); now.Sub(d.told) >= tellEvery {
		d.told = now
		d.edge.log.Warn(msg, "err", err) //nolint:sloglint // Both are constants.
	}
}

// noRoom answers a connection before it has said anything, and closes it. There is room for the answer in the buffer of a
// socket that is new, so this does not block.
func (e *Edge) noRoom(conn net.Conn) {
	body := protocol.ErrorBody(protocol.Errorf(protocol.CodeUnavailable, "%s", refusals[becauseFull]))
	fmt.Fprintf(conn, "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json; charset=utf-8\r\nRetry-After: %d\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s",
		seconds(e.comeBack()), len(body), body)
	conn.Close() //nolint:errcheck // Who does not hear it notices that the connection is closed.
}
