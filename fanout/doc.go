// Package fanout decides who hears what. The hub knows every session of the node; node hands it each event after the
// cache has applied it, and the hub delivers one shared Frame to all who are to hear it.
//
// The audience of an event depends on its topic:
//
//   - A channel's events go to the users whom the channel topic's own events have put into it, and those who were in it
//     when they attached. A user who is added hears the adding event and what follows; one who is removed hears the
//     removing event and nothing after it, whatever the user's own topic says and whenever it says so.
//   - A workspace's events go to the sessions of its users; to those who are not full members only if Options.Allow
//     says so, event by event.
//   - A user's events go to that user's sessions, and presence to those who watch it.
//
// The index of channels holds users, not sessions: a user's sessions share one place, so the second one costs nothing.
//
// The hub remembers the events of the last minutes (Config), so that a session that comes back is told what it missed:
// AttachSince. What is older, or was before the node followed a topic, has to be asked of the backend.
//
// PublishAfter keeps the order of a topic; deliveries follow one another. Receivers must not block, so there is no queue
// here to bound. What is held is bounded by what attaches: sessions (edge's admission), their users' channels, and
// protocol.MaxPresenceIDs watched users for each session.
//
// Lock order: Hub.doors, then Hub.publishing, then Hub.mu, then replayLog.mu. Receivers and Allow are called with publishing held but
// without mu, so they may read the hub, but not change it. The hub starts no goroutines.
package fanout
