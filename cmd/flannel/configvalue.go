package main

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// flatten puts the values of a YAML tree into values by their keys, converted to the types of the defaults in known. It
// returns what is wrong, in the order of the keys. An empty section, and a key without a value, say nothing.
func flatten(prefix string, tree map[string]any, known, values map[string]any) (errs []error) {
	for _, name := range slices.Sorted(maps.Keys(tree)) {
		key, value := prefix+name, tree[name]
		fallback, isKey := known[key]
		isSection := isSection(key, known)
		section, hasKeys := value.(map[string]any)
		switch {
		case strings.Contains(name, "."):
			errs = append(errs, fmt.Errorf("unknown key %q: write sections, not dots", key))
		case !isKey && !isSection:
			errs = append(errs, fmt.Errorf("unknown key %q%s", key, suggestion(key, known)))
		case value == nil:
		case isSection && hasKeys:
			errs = append(errs, flatten(key+".", section, known, values)...)
		case isSection:
			errs = append(errs, fmt.Errorf("%s is %s; write a section with keys of its own", key, brief(value)))
		default:
			v, err := convert(value, fallback)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", key, err))
				continue
			}
			values[key] = v
		}
	}
	return errs
}

func isSection(key string, known map[string]any) bool {
	for k := range known {
		if strings.HasPrefix(k, key+".") {
			return true
		}
	}
	return false
}

// convert makes value, from a file, the environment or a flag, one of the type of like. It is strict: a time without a
// unit, a fraction where a count is meant, or a list for a word is a mistake, and not 25 nanoseconds.
func convert(value, like any) (any, error) {
	text, isText := value.(string)
	text = strings.TrimSpace(text)
	wrong := func(want string) error { return fmt.Errorf("is %s; write %s", brief(value), want) }
	switch like.(type) {
	case string:
		if isText {
			return text, nil
		}
		return nil, wrong("a text, in quotes if it looks like something else")
	case bool:
		if b, ok := value.(bool); ok {
			return b, nil
		}
		if text == "true" || text == "false" {
			return text == "true", nil
		}
		return nil, wrong("true or false")
	case time.Duration:
		if d, err := time.ParseDuration(text); isText && err == nil {
			return d, nil
		}
		return nil, wrong("a time with its unit, like 250ms, 30s, 5m or 1h")
	case int, int64:
		if n, ok := value.(int); ok {
			return n, nil
		}
		if n, err := strconv.Atoi(text); isText && err == nil {
			return n, nil
		}
		return nil, wrong("a whole number, like 4096")
	case float64:
		f, ok := value.(float64)
		if n, whole := value.(int); whole {
			f, ok = float64(n), true
		}
		if isText {
			parsed, err := strconv.ParseFloat(text, 64)
			f, ok = parsed, err == nil
		}
		if ok && !math.IsNaN(f) && !math.IsInf(f, 0) {
			return f, nil
		}
		return nil, wrong("a number, like 0.5")
	case []string:
		return convertList(value, wrong)
	}
	return nil, fmt.Errorf("cannot be set: flannel has no way to read a %T", like)
}

// convertList reads a list of texts; in the environment its elements stand between commas.
func convertList(value any, wrong func(string) error) (any, error) {
	list := []string{}
	switch v := value.(type) {
	case string:
		for part := range strings.SplitSeq(v, ",") {
			if part = strings.TrimSpace(part); part != "" {
				list = append(list, part)
			}
		}
		return list, nil
	case []any:
		for _, part := range v {
			text, ok := part.(string)
			if !ok {
				return nil, wrong("a list of texts, like [https://chat.example.com]")
			}
			list = append(list, text)
		}
		return list, nil
	}
	return nil, wrong("a list of texts, like [https://chat.example.com]")
}

// brief quotes a value for an error.
func brief(value any) string {
	const most = 60
	text := fmt.Sprint(value)
	switch value.(type) {
	case string:
		text = strconv.Quote(text)
	case map[string]any, map[any]any:
		return "a section"
	case []any:
		return "a list"
	}
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

// suggestion names the known key that is nearest to a misspelled one, if one is near: within a third of its letters, or
// with the same last word.
func suggestion[V any](key string, known map[string]V) string {
	const longest = 100 // No key is; the comparison takes time by the square.
	if len(key) > longest {
		return ""
	}
	names := make(map[string]bool, len(known)) // the sections too
	for k := range known {
		for i := len(k); i > 0; i = strings.LastIndex(k[:i], ".") {
			names[k[:i]] = true
		}
	}
	best, least := "", len(key)/3+1
	for _, k := range slices.Sorted(maps.Keys(names)) {
		if d := distance(key, k); d < least {
			best, least = k, d
		}
	}
	for _, k := range slices.Sorted(maps.Keys(names)) {
		if best == "" && k[strings.LastIndex(k, ".")+1:] == key[strings.LastIndex(key, ".")+1:] {
			best = k
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %q?)", best)
}

// distance counts the letters to change, add or leave out to come from a to b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(diagonal+cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
