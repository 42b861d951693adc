// Package protocol is the words on every socket: ids, objects, events, frames, errors, close codes and limits. It has no
// policy and does no I/O. Both sides import it: the edge and the backend meet in these words only.
//
// # Client and server
//
// A client in compatible mode says, and hears, in this order:
//
//	client  POST /api/rtm.connect                   {"ok":true,"url":"ws://…/websocket/TICKET",…}
//	client  GET /websocket/TICKET, upgrade          the ticket is good once, for 30 s
//	server  hello                                   Hello; the first frame, always
//	server  events of the user's topics             as the backend made them, byte for byte
//	client  ping {id, anything flat}                pong {reply_to, the same fields}
//	client  message {id, channel, text, …}          Ack, or Nack; Ack means that it is on disk
//	client  typing {channel}                        no answer; others hear user_typing
//	client  presence_sub {ids}                      the full list each time; presence_change for new ids
//	client  presence_query {ids}                    presence_change
//	client  anything else                           ErrorFrame; the socket stays
//	server  goodbye, then a close frame             CloseCode says what to do
//
// In thin mode (flannel=3 in the address) in addition:
//
//	server  boot, counts                            right behind hello, if the address said boot=1; with lazy_channels=1 both are slim
//	client  query {id, method, args}                {"reply_to":id, …}; pipelined, answered in any order
//	client  view {channels}                         no answer; other channels come as badge from now on
//	server  objects {users, channels, bots}         right before the event that needs them
//	server  hello, pong carry resume_token          resume=TOKEN in the address continues from there: resume.go
//	server  refresh {expires}                       the token is about to end: refresh.go
//	client  refresh {id, token}                     Refreshed, or Nack; before its token ends, or the session does
//	server  resync {refetch}                        something was lost; a close frame follows
//
// # Edge and backend
//
// The calls of the upstream contract stand with their types in upstream.go, the stream's conversation in stream.go. The
// specification for strangers is docs/upstream.md.
package protocol
