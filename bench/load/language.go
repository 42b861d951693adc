package load

import (
	"bytes"
	"strconv"
)

// appendQuestion appends a question for the bodies of users as thin sessions ask it. tag comes back in reply_to.
func appendQuestion(b []byte, tag int, ids []string) []byte {
	b = append(b, `{"id":`...)
	b = strconv.AppendInt(b, int64(tag), 10)
	b = append(b, `,"type":"query","method":"users/info","args":{"updated_ids":{`...)
	for i, id := range ids {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = append(b, id...)
		b = append(b, `":0`...)
	}
	return append(b, `}}}`...)
}

// replyTo returns the tag of an answer, and whether the frame is one.
func replyTo(frame []byte) (tag int, ok bool) {
	const head = `{"reply_to":`
	if len(frame) <= len(head) || string(frame[:len(head)]) != head {
		return 0, false
	}
	for _, c := range frame[len(head):] {
		if c < '0' || c > '9' {
			break
		}
		tag = tag*10 + int(c-'0')
	}
	return tag, true
}

// right reports whether an answer has the last of the objects that were asked for; those before it are in front of it.
func right(frame []byte, last string) bool {
	const near = 64 // "ok" is the first or the last of the fields
	ok := []byte(`"ok":true`)
	if !bytes.Contains(frame[max(len(frame)-near, 0):], ok) && !bytes.Contains(frame[:min(len(frame), near)], ok) {
		return false
	}
	return bytes.Contains(frame, []byte(last)) // It is an id: nothing else looks so.
}

// appendGet appends the same question to Redis or memcached.
func appendGet(b []byte, language string, ids []string) []byte {
	if language == Memcached {
		b = append(b, "get"...)
		for _, id := range ids {
			b = append(append(b, ' '), id...)
		}
		return append(b, "\r\n"...)
	}
	if len(ids) == 1 {
		return appendWords(b, "GET", ids[0])
	}
	return appendWords(b, append([]string{"MGET"}, ids...)...)
}

// appendSet appends the command that stores an object.
func appendSet(b []byte, language, id string, body []byte) []byte {
	if language == Memcached {
		b = append(b, "set "+id+" 0 0 "+strconv.Itoa(len(body))+"\r\n"...)
		return append(append(b, body...), "\r\n"...)
	}
	return appendWords(b, "SET", id, string(body))
}

// appendWords appends a command to Redis.
func appendWords(b []byte, words ...string) []byte {
	line := func(mark byte, n int) {
		b = append(b, mark)
		b = strconv.AppendInt(b, int64(n), 10)
		b = append(b, "\r\n"...)
	}
	line('*', len(words))
	for _, w := range words {
		line('$', len(w))
		b = append(b, w...)
		b = append(b, "\r\n"...)
	}
	return b
}

// nextAnswer reads the first answer of Redis or memcached in b. objects is how many it has; size is 0 if it is not whole
// yet. An error of the server is an answer without objects.
func nextAnswer(language string, b []byte) (objects, size int) {
	if language == Memcached {
		return nextValues(b)
	}
	line, rest, ok := bytes.Cut(b, []byte("\r\n"))
	if !ok || len(line) == 0 {
		return 0, 0
	}
	switch line[0] {
	case '+': // stored
		return 1, len(line) + 2
	case '$':
		return nextBulk(b)
	case '*':
		many, err := strconv.Atoi(string(line[1:]))
		if err != nil {
			return 0, len(line) + 2
		}
		size = len(b) - len(rest)
		for range many {
			n, used := nextBulk(b[size:])
			if used == 0 {
				return 0, 0
			}
			objects += n
			size += used
		}
		return objects, size
	default:
		return 0, len(line) + 2
	}
}

// nextBulk reads one string of Redis.
func nextBulk(b []byte) (objects, size int) {
	end := bytes.IndexByte(b, '\n')
	if end < 2 {
		return 0, 0
	}
	n, err := strconv.Atoi(string(b[1 : end-1]))
	if err != nil || n < 0 { // -1: there is no such key
		return 0, end + 1
	}
	if size = end + 1 + n + 2; len(b) < size {
		return 0, 0
	}
	return 1, size
}

// nextValues reads memcached's values up to END, or its one line about something stored.
func nextValues(b []byte) (objects, size int) {
	for {
		end := bytes.IndexByte(b[size:], '\n')
		if end < 0 {
			return 0, 0
		}
		line := bytes.TrimRight(b[size:size+end], "\r")
		size += end + 1
		if string(line) == "STORED" {
			return 1, size
		}
		if !bytes.HasPrefix(line, []byte("VALUE ")) {
			return objects, size // END, or an error
		}
		n, err := strconv.Atoi(string(line[bytes.LastIndexByte(line, ' ')+1:]))
		if err != nil {
			return objects, size
		}
		if size += n + 2; len(b) < size {
			return 0, 0
		}
		objects++
	}
}
