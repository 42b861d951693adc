// Package upstream is this node's relationship with a backend: batched loads, forwarded calls and one event stream,
// with retries, circuit breakers and adaptive limits. It speaks the contract of protocol/upstream.go and
// protocol/stream.go and knows nothing of caches or sessions: what comes up goes into one Sink.
//
// Promises:
//   - Loads of the same key within one window or in the air are one, if the position that the first promises will do
//     for the second. The end of one caller's context never fails the others, because the load runs on a context of its
//     own.
//   - Per topic, the sink sees every event exactly once and in seq order, or it is told Reset. A hole is asked for again
//     before it is taken for a loss.
//   - What the sink hears comes from one goroutine.
//   - Errors hold a *protocol.Error (errors.As finds it): CodeUnavailable with a jittered Retry when the backend cannot
//     be reached, is overloaded, or answers what it should not; the backend's own code when it refuses a request.
//
// Goroutines: New starts none. Run owns the stream. Loads and forwarded calls start some, which end with Close; Run
// closes when it returns. One is not ours: fasthttp's cleaner of idle connections ends by itself within
// Config.IdleTimeout after Close.
//
// What the stream's contract leaves open is read so:
//   - The seq and position in "subscribed" and "reset" are where the backend goes on from: the next event of the topic
//     has the seq after it.
//   - Every topic in a subscribe frame is answered once, by "subscribed" or "reset", also if it was followed already.
//   - A pong comes after the answers and replays of what was asked for before the ping. A backend need not repeat a
//     watermark when nothing has happened, so this is how the end of a replay is known on a quiet stream.
package upstream
