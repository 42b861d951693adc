// Package client is the Go library for applications that talk to a flannel edge: it keeps one thin connection, asks
// lazily for what is shown, and hears every event once.
//
//	c, err := client.Dial(ctx, client.Options{URL: "https://edge.example.com", Token: token})
//	if err != nil {
//		return err
//	}
//	defer c.Close()
//	for ev := range c.Events(ctx) {
//		switch e := ev.Data.(type) {
//		case *client.Message:
//			author, err := c.User(ctx, e.User) // Mostly from memory: the edge sent the author in front of the message.
//			…
//		case *client.Resync:
//			// Fetch again what is shown of e.Refetch.
//		}
//	}
//
// # A conversation
//
// What goes over the wire, and what the application sees of it:
//
//	Dial          client  wss://EDGE/?flannel=3&boot=1&lazy_channels=1&batch_presence_aware=1[&view=…][&resume=…]
//	              server  hello                          the reconnect policy, a token to resume from
//	              server  boot, counts                   Boot, Counts; Dial returns
//	User          client  query users/info {id:version}  many at once, each once; nothing that is current
//	              server  {"results":[],"ok":true}       24 bytes if nothing has changed
//	              server  objects                        kept: the next event needs them
//	Next          server  message, badge, …              Event, with Data by type and Raw
//	SetView       client  view                           other channels come as Badge from now on
//	WatchPresence client  presence_sub                   Presence
//	Send          client  message {client_msg_id}        again after a break, until it is acknowledged; posted once
//	              client  ping                           pong brings a newer token
//	TokenSource   server  refresh                        the access token is about to end
//	              client  refresh {token}                the connection goes on with the new one
//	              server  close 4200 {retry, URL}        State is Reconnecting; the server says when and where
//	              client  …&resume=TOKEN                 what was missed comes again, what was had is skipped
//	              server  hello {resume: resync}         Resync: what cannot be told any more
//
// # What is promised
//
//   - Events of one topic come in order, each of them once, across connections, and with Save across runs; or a Resync
//     event says what was lost.
//   - What waits for the application is bounded, and nothing of it blocks the connection: see Next.
//   - The lazy store never gives an older object after a newer one. What an event has said to be changed is asked for
//     again; what is current costs nothing. It is bounded, the least recently used going first.
//   - Reconnecting is the server's to direct: the waiting times and the jitter of its hello, and its close codes, which
//     say now, later, elsewhere, with a new token, from anew, or never (protocol.CloseCode).
//   - Every method that waits takes a context. Close waits for every goroutine: one for the life of the client, which
//     reads, one for each socket, which writes, and one for each batch of lookups.
//
// Errors: see ErrClosed and its neighbours; what the server refuses is a *protocol.Error.
package client
