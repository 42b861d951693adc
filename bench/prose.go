package bench

import (
	"math/rand/v2"
	"strings"
)

// words are what people write with: deflate makes of them about what it makes of their messages, a little less than half.
var words = strings.Fields(`the of and to a in that it is was for on are as with they be at one have this from or had by hot but some what
	there we can out other were all your when up use word how said an each she which do their time if will way about many then them
	would write like so these her long make thing see him two has look more day could go come did my sound no most number who over
	know water than call first people may down side been now find any new work part take get place made live where after back little
	only round man year came show every good me give our under name very through just form much great think say help low line before
	turn cause same mean differ move right boy old too does tell sentence set three want air well also play small end put home read
	hand port large spell add even land here must big high such follow act why ask men change went light kind off need house picture`)

// prose makes text as long as chars, with words that are those of a message's number.
func prose(text string, number int64, chars int) string {
	if len(text) >= chars {
		return text
	}
	rng := rand.New(rand.NewPCG(uint64(number), 0)) //nolint:gosec // A text, not a secret.
	var b strings.Builder
	b.WriteString(text)
	for b.Len() < chars {
		b.WriteByte(' ')
		b.WriteString(words[rng.IntN(len(words))])
	}
	return b.String()[:chars]
}
