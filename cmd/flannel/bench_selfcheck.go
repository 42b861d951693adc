package main

import (
	"context"

	"flannel/bench"
	"flannel/bench/load"
	"flannel/bench/synth"
)

// bareServer is the name of the self-check's target.
const bareServer = "bare"

// startBare starts a server that does nothing, in this process: it is the generators that are measured. It has no process
// of its own, so nothing is said of its cost.
func startBare(_ context.Context, s *scenario) (*bench.Target, func(), error) {
	b, err := load.NewBare(objectBytes)
	if err != nil {
		return nil, nil, err
	}
	return &bench.Target{
		Name: bareServer, Address: b.Address(), Language: load.Websocket, Until: lastFrame(s.boot), IDs: objectIDs(),
		Paths: []string{thinPath(synth.Token(0), s.boot, synth.Channel(0))},
		Publish: func(_ context.Context, text string) error {
			b.Publish(synth.Message(text, "1767603600.000001"))
			return nil
		},
	}, b.Close, nil
}
