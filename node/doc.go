// Package node is a whole edge node as a value: it builds the rooms, joins the doors between them, and starts and stops
// them in order. Two nodes can run in one process.
//
//	upstream ──event──▶ sink: cache.Apply, then fanout.PublishAfter ──▶ edge sessions
//	edge ──read──▶ query ──miss──▶ upstream          edge ──write──▶ upstream
//	affinity ──place──▶ edge: the addresses that clients are given     edge ──sessions──▶ affinity: what others are told
//	janitor: user states whose grace is over are dropped, and their topics unfollowed
package node
