package query

import (
	"strings"

	"flannel/cache"
	"flannel/protocol"
)

// The filter language of users/list and the searches:
//
//	filter = term { "AND" term }
//	term   = "NOT" term | "(" filter ")" | atom
//	atom   = everyone | people | members | guests | bots | apps | deactivated
//
// everyone is every account, deactivated ones too. people are accounts that are neither bots nor apps; members are
// people who are no guests. An empty filter is everyone.

const (
	// maxFilter bounds a filter in bytes; the longest seen has 35.
	maxFilter = 512
	// maxFilterDepth bounds parentheses and NOTs within each other.
	maxFilterDepth = 16
)

// traits are what a filter can ask about a user.
type traits = cache.Traits

// traitsOfBody reads them from the body of a user.
func traitsOfBody(body []byte) traits {
	var t traits
	protocol.EachField(body, func(name, value []byte) bool {
		if string(value) != "true" {
			return true
		}
		switch string(name) {
		case "deleted":
			t |= cache.TraitDeactivated
		case "is_restricted", "is_ultra_restricted":
			t |= cache.TraitGuest
		case "is_bot":
			t |= cache.TraitBot
		case "is_app_user":
			t |= cache.TraitApp
		}
		return true
	})
	return t
}

func people(t traits) bool { return t&(cache.TraitBot|cache.TraitApp) == 0 }

var atoms = map[string]func(traits) bool{
	"everyone":    func(traits) bool { return true },
	"people":      people,
	"members":     func(t traits) bool { return people(t) && t&cache.TraitGuest == 0 },
	"guests":      func(t traits) bool { return t&cache.TraitGuest != 0 },
	"bots":        func(t traits) bool { return t&cache.TraitBot != 0 },
	"apps":        func(t traits) bool { return t&cache.TraitApp != 0 },
	"deactivated": func(t traits) bool { return t&cache.TraitDeactivated != 0 },
}

// filter tells whether a user is wanted. It does not change and may be shared.
type filter func(traits) bool

// parseFilter compiles a filter. Errors are *protocol.Error with CodeInvalidArgs.
func parseFilter(text string) (filter, error) {
	if len(text) > maxFilter {
		return nil, protocol.Errorf(protocol.CodeInvalidArgs, "the filter has %d bytes; the limit is %d", len(text), maxFilter)
	}
	p := filterParser{rest: text}
	p.next()
	if p.token == "" {
		return atoms["everyone"], nil
	}
	f, err := p.filter(0)
	if err == nil && p.token != "" {
		err = protocol.Errorf(protocol.CodeInvalidArgs, "the filter has %q where AND or its end was expected", p.token)
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

// filterParser holds the token that is looked at and the text after it; an empty token is the end.
type filterParser struct {
	token string
	rest  string
}

func (p *filterParser) next() {
	p.rest = strings.TrimLeft(p.rest, " \t\r\n")
	n := strings.IndexAny(p.rest, " \t\r\n()")
	switch {
	case n < 0:
		n = len(p.rest)
	case n == 0: // a parenthesis
		n = 1
	}
	p.token, p.rest = p.rest[:n], p.rest[n:]
}

func (p *filterParser) filter(depth int) (filter, error) {
	all, err := p.term(depth)
	for err == nil && p.token == "AND" {
		p.next()
		var right filter
		left := all
		if right, err = p.term(depth); err == nil {
			all = func(t traits) bool { return left(t) && right(t) }
		}
	}
	return all, err
}

func (p *filterParser) term(depth int) (filter, error) {
	if depth > maxFilterDepth {
		return nil, protocol.Errorf(protocol.CodeInvalidArgs, "the filter is nested deeper than %d", maxFilterDepth)
	}
	token := p.token
	p.next()
	switch token {
	case "NOT":
		inner, err := p.term(depth + 1)
		if err != nil {
			return nil, err
		}
		return func(t traits) bool { return !inner(t) }, nil
	case "(":
		inner, err := p.filter(depth + 1)
		if err != nil {
			return nil, err
		}
		if p.token != ")" {
			return nil, protocol.Errorf(protocol.CodeInvalidArgs, "the filter lacks a closing parenthesis")
		}
		p.next()
		return inner, nil
	case "":
		return nil, protocol.Errorf(protocol.CodeInvalidArgs, "the filter ends where a word was expected")
	}
	if atom := atoms[token]; atom != nil {
		return atom, nil
	}
	return nil, protocol.Errorf(protocol.CodeInvalidArgs, "the filter knows no %q", token)
}
