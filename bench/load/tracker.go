package load

// tracker knows of each message under way how many connections do not have it yet. The zero value is ready to use.
type tracker struct {
	first int64 // the number that left[0] stands for
	left  []int // 0: everybody has it
}

// had notes that one of open connections has a message. It reports whether all have it now.
func (t *tracker) had(n int64, open int) bool {
	if len(t.left) == 0 {
		t.first = n
	}
	for n < t.first { // It overtook others on another connection.
		t.left = append([]int{open}, t.left...)
		t.first--
	}
	for n >= t.first+int64(len(t.left)) {
		t.left = append(t.left, open)
	}
	i := n - t.first
	t.left[i]--
	all := t.left[i] == 0
	t.trim()
	return all
}

// lost notes that a connection has ended whose last message was that. It appends the messages that all others have to
// heard.
func (t *tracker) lost(last int64, heard []int64) []int64 {
	for i := range t.left {
		if n := t.first + int64(i); n > last && t.left[i] > 0 {
			if t.left[i]--; t.left[i] == 0 {
				heard = append(heard, n)
			}
		}
	}
	t.trim()
	return heard
}

// trim forgets messages that all have and that nobody can overtake.
func (t *tracker) trim() {
	n := 0
	for n < len(t.left) && t.left[n] == 0 {
		n++
	}
	if n == len(t.left) {
		t.left = t.left[:0]
		return
	}
	if n > 1024 { // Not one by one: that would be a copy for each message.
		t.left = append(t.left[:0], t.left[n:]...)
		t.first += int64(n)
	}
}
