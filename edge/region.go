package edge

import "flannel/protocol"

// Place is a node as clients are sent to it.
type Place struct {
	Node string // its name
	URL  string // where clients reach it: scheme://host[:port]
}

// Region is what the edge asks about the other nodes. Its methods do not block.
type Region interface {
	// Self returns this node.
	Self() Place
	// Place returns the node that a user should be at, and the one to go to if that does not answer; both may be this one.
	Place(id protocol.Identity) (primary, fallback Place)
	// Secrets returns what all nodes of the region know and nobody else: sealed tickets are made with the first, and opened
	// with any.
	Secrets() [][]byte
}

// where returns the node that id is sent to, and whether it is another than this. host is where the client has asked; a node
// that stands alone is wherever its clients find it.
func (e *Edge) where(id protocol.Identity, host string, fallback bool) (at Place, elsewhere bool) {
	if e.doors.Region == nil {
		return Place{URL: host}, false
	}
	at, next := e.doors.Region.Place(id)
	if fallback {
		at = next
	}
	return at, at.Node != e.doors.Region.Self().Node
}

// Home returns scheme://host of the node that id should ask.
func (e *Edge) Home(id protocol.Identity, host string) string {
	at, _ := e.where(id, host, false)
	return at.URL
}

// URL returns the address of a socket for id, at the node where it should be, or at the next one. params are the arguments
// of the call that asked, with two of the edge's own among them: argToken and argMethod.
func (e *Edge) URL(id protocol.Identity, params map[string]string, host string, fallback bool) (string, error) {
	at, elsewhere := e.where(id, host, fallback)
	token := params[argToken]
	if params[argMethod] == "client.getWebSocketURL" {
		return thinURL(at.URL, token), nil
	}
	if elsewhere {
		if name, ok := e.tickets.seal(at.Node, token, params); ok {
			return socketURL(at.URL, name), nil
		}
		at = e.doors.Region.Self() // Any node serves; a ticket that is too long to travel is good here.
	}
	name, err := e.tickets.issue(token, params)
	if err != nil {
		e.metrics.rejected.WithLabelValues("tickets", "full").Inc()
		return "", err
	}
	return socketURL(at.URL, name), nil
}
