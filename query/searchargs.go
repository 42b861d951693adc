package query

import (
	"encoding/json"
	"strings"

	"flannel/cache"
	"flannel/protocol"
)

const (
	// defaultFound and maxFound are how many a search answers with: 25 and 30 are seen.
	defaultFound = 25
	maxFound     = 100
	// maxWords is how many words of a query count; nobody types more.
	maxWords = 10
)

// searchArgs are the arguments of users/search and channels/search.
type searchArgs struct {
	words   []string
	count   int
	fuzz    bool
	email   bool
	kinds   cache.Kinds
	top     []protocol.ObjectID
	channel protocol.ChannelID
	check   bool
}

// searchArgs reads the arguments. Whoever is deactivated, and what is archived, is left out unless the filter speaks of
// it.
func (r *reader) searchArgs(args json.RawMessage) (a searchArgs, err error) {
	a = searchArgs{count: defaultFound, kinds: cache.KindsOf(func(t traits) bool { return t&cache.TraitDeactivated == 0 })}
	err = fields(args, func(name string, value []byte) (err error) {
		if string(value) == "null" {
			return nil
		}
		switch name {
		case "query", "filter", "current_channel":
			text, valid := jsonText(value)
			if !valid {
				return badArg(name, "a string")
			}
			err = a.text(name, text)
		case "count":
			var n int64
			if n, err = jsonWhole(name, value); err == nil && (n < 1 || n > maxFound) {
				err = badArg(name, "between 1 and 100")
			}
			a.count = int(n)
		case "fuzz":
			a.fuzz, err = jsonFlag(name, value)
		case "search_email":
			a.email, err = jsonFlag(name, value)
		case "check_membership":
			a.check, err = jsonFlag(name, value)
		case "top_users", "top_channels":
			a.top, err = jsonTexts[protocol.ObjectID](name, value, r.s.config.MaxIDs)
		}
		return err
	})
	return a, err
}

func (a *searchArgs) text(name, text string) error {
	switch name {
	case "query":
		if len(text) > protocol.MaxQuery {
			return protocol.Errorf(protocol.CodeInvalidArgs, "the query has %d bytes; the limit is %d", len(text), protocol.MaxQuery)
		}
		a.words = protocol.SearchWords(text)
		a.words = a.words[:min(len(a.words), maxWords)]
	case "filter":
		f, err := parseFilter(text)
		if err != nil {
			return err
		}
		speaks := strings.Contains(text, "deactivated")
		a.kinds = cache.KindsOf(func(t traits) bool { return f(t) && (speaks || t&cache.TraitDeactivated == 0) })
	case "current_channel":
		a.channel = protocol.ChannelID(text)
	}
	return nil
}

// query makes a look into a directory of the arguments.
func (a *searchArgs) query() *cache.Query {
	return &cache.Query{Words: a.words, Email: a.email, Fuzz: a.fuzz, Kinds: a.kinds, Top: a.top, Limit: a.count + spareFound}
}

// spareFound is how many more than were asked for are looked for: some may not be visible after all.
const spareFound = 10
