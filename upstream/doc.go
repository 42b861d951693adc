// Package upstream is this node's relationship with a backend: batched loads, forwarded calls and one event stream,
// with retries, circuit breakers and adaptive limits. It speaks the contract of protocol/upstream.go and
// protocol/stream.go and knows nothing of caches or sessions: what comes up goes into one Sink.
//
// Promises:
//   - Loads of the same key within one window or in the air are one; the end of one caller's context never fails the
//     others, because the load itself runs on a context of its own.
//   - Per topic, the sink sees every event exactly once and in seq order, or it is told Reset.
//   - What the sink hears comes from one goroutine.
//   - Errors are *protocol.Error (errors.As finds them): CodeUnavailable with a jittered Retry when the backend cannot
//     be reached, is overloaded, or answers what it should not; the backend's own code when it refuses a request.
//
// Goroutines: New starts none. Run owns the stream. Loads and forwarded calls start some, which end with Close; Run
// closes when it returns.
package upstream
