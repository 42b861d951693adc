package protocol

// EachElement calls fn for every element of the JSON array body in order, with its raw bytes, until fn returns false. As
// EachField it neither decodes nor allocates, and returns false if body is visibly not a JSON array.
func EachElement(body []byte, fn func(value []byte) bool) bool {
	i := skipSpace(body, 0)
	if i >= len(body) || body[i] != '[' {
		return false
	}
	if i = skipSpace(body, i+1); i < len(body) && body[i] == ']' {
		return skipSpace(body, i+1) == len(body)
	}
	for {
		start := i
		if i = skipValue(body, i); i < 0 {
			return false
		}
		if !fn(body[start:i]) {
			return true
		}
		if i = skipSpace(body, i); i >= len(body) {
			return false
		}
		switch body[i] {
		case ',':
			i = skipSpace(body, i+1)
		case ']':
			return skipSpace(body, i+1) == len(body)
		default:
			return false
		}
	}
}
