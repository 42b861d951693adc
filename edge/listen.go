package edge

import (
	"context"
	"net"
)

// listen binds the address for clients. No keep-alive by TCP: a websocket that does not answer pings is closed, and an HTTP
// connection that says nothing is, long before; turning it on takes four system calls for each connection.
func listen(address string) (net.Listener, error) {
	return (&net.ListenConfig{KeepAlive: -1, Control: deferAccept}).Listen(context.Background(), "tcp", address)
}
