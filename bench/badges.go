package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"reflect"
	"strings"
	"time"
)

// perMessage is how many people one message mentions.
const perMessage = 5

// badgeTries is how often counts are compared, a second apart: the staleness bound is one second.
const badgeTries = 3

// pickSample returns n of the people, the same for the same seed.
func pickSample(people []Person, n int, seed uint64) []Person {
	rng := rand.New(rand.NewPCG(seed, 2)) //nolint:gosec // A load, not a secret.
	sample := make([]Person, 0, n)
	for _, i := range rng.Perm(len(people))[:min(n, len(people))] {
		sample = append(sample, people[i])
	}
	return sample
}

// write posts messages, straight at the backend, that mention everybody of the sample.
func (t *ReconnectTarget) write(ctx context.Context, phase string, sample []Person) error {
	client := newCaller(t.Writer.Token)
	defer client.close()
	for i := 0; i < len(sample); i += perMessage {
		var text strings.Builder
		fmt.Fprintf(&text, "While you were away (%s):", phase)
		for _, p := range sample[i:min(i+perMessage, len(sample))] {
			fmt.Fprintf(&text, " <@%s>", p.ID)
		}
		args := url.Values{"channel": {string(t.Channel)}, "text": {text.String()}}
		if _, _, err := client.call(ctx, t.Backend, "chat.postMessage", args); err != nil {
			return err
		}
	}
	return nil
}

// compareBadges returns how many people's counts differ between the edge and the backend.
func (t *ReconnectTarget) compareBadges(ctx context.Context, edge string, sample []Person) (wrong int, err error) {
	left := sample
	for try := range badgeTries {
		if try > 0 {
			sleep(ctx, time.Second)
		}
		var differ []Person
		for _, p := range left {
			same, err := t.sameCounts(ctx, edge, p)
			if err != nil {
				return 0, err
			}
			if !same {
				differ = append(differ, p)
			}
		}
		if left = differ; len(left) == 0 {
			break
		}
	}
	return len(left), nil
}

func (t *ReconnectTarget) sameCounts(ctx context.Context, edge string, p Person) (bool, error) {
	client := newCaller(p.Token)
	defer client.close()
	var counts [2]map[string]any
	for i, base := range []string{edge, t.Backend} {
		body, _, err := client.call(ctx, base, "client.counts", nil)
		if err != nil {
			return false, err
		}
		if err := json.Unmarshal(body, &counts[i]); err != nil {
			return false, fmt.Errorf("read client.counts: %w", err)
		}
	}
	return reflect.DeepEqual(counts[0], counts[1]), nil
}
