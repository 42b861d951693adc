package cache

import (
	"crypto/sha256"

	"flannel/protocol"
)

// refused is a token that the backend did not accept. No topic tells when it becomes good, so that it is believed for as
// long as "there is no such object" is: a client that does not give up is answered from here meanwhile.
type refused struct {
	code    protocol.Code
	expires int64
}

func (r *refused) lastUse() int64 { return r.expires }

// maxRefused bounds the refused tokens, which cost about 100 bytes each: whoever makes up more is asked about again.
const maxRefused = 4096

// lasting reports whether a refusal is about the token alone. An account that is inactive may be renewed by an event, and
// what goes wrong in between says nothing.
func lasting(code protocol.Code) bool {
	return code == protocol.CodeInvalidAuth || code == protocol.CodeTokenRevoked || code == protocol.CodeTokenExpired
}

// FillRefusal keeps the answer to an identify load that refused a token. What does not last is not kept.
func (c *Cache) FillRefusal(token string, code protocol.Code) {
	if !lasting(code) || c.config.NegativeFor == 0 {
		return
	}
	key := tokenKey(sha256.Sum256([]byte(token)))
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, again := c.refused.get(key); !again && c.refused.len() >= maxRefused {
		if old, _, ok := c.refused.oldest(func(*refused) bool { return false }); ok {
			c.refused.remove(old)
			c.metrics.evictions[evictBound].Inc()
		}
	}
	c.refused.put(key, &refused{code, c.now().UnixNano() + int64(c.config.NegativeFor)})
}

// refusal returns why a token is refused, if that is known.
func (c *Cache) refusal(key tokenKey) (protocol.Code, bool) {
	r, ok := c.refused.get(key)
	if !ok || c.now().UnixNano() >= r.expires {
		return "", false
	}
	return r.code, true
}

// expireRefusals forgets what is over. It wants mu.
func (c *Cache) expireRefusals(now int64) {
	var over []tokenKey
	c.refused.each(func(key tokenKey, r *refused) {
		if now >= r.expires {
			over = append(over, key)
		}
	})
	for _, key := range over {
		c.refused.remove(key)
	}
}
