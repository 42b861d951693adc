package check

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"flannel/protocol"
)

// searched holds searches for what the token's own user is called against the whole list: by a word's beginning, by two
// words in the wrong order, by what nobody is called.
func (s *suite) searched(ctx context.Context) error {
	if s.identity.User == "" {
		return errNobody
	}
	all, whole, err := s.listing(ctx, "")
	if err != nil {
		return err
	}
	at := slices.IndexFunc(all, func(e protocol.ListEntry) bool { return e.ID == protocol.ObjectID(s.identity.User) })
	var words []string
	switch {
	case at >= 0:
		words = all[at].Words()
	case !whole: // The workspace is large.
		words = protocol.SearchWords(s.identity.UserName)
	}
	if len(words) == 0 {
		return errors.New("the token's own user is not in the list, or has no name")
	}
	first, last := words[0], words[len(words)-1]
	for _, query := range []string{first, beginning(first), last + " " + beginning(first), beginning(first) + ", " + last, "nobody is called " + s.nonce} {
		found, complete, err := s.listing(ctx, query)
		if err != nil {
			return fmt.Errorf("query %q: %w", query, err)
		}
		wanted := protocol.SearchWords(query)
		for i := range found {
			if !found[i].Matches(wanted) {
				return fmt.Errorf("query %q found %s (%q, %q), which does not match", query, found[i].ID, found[i].Name, found[i].RealName)
			}
		}
		if !whole || !complete {
			continue
		}
		want := slices.DeleteFunc(slices.Clone(all), func(e protocol.ListEntry) bool { return !e.Matches(wanted) })
		if same := func(a, b protocol.ListEntry) bool { return a.ID == b.ID }; !slices.EqualFunc(found, want, same) {
			return fmt.Errorf("query %q found %d entries; %d of the whole list match, or they come in another order", query, len(found), len(want))
		}
	}
	return nil
}

// beginning returns the first letter of a word.
func beginning(word string) string {
	_, n := utf8.DecodeRuneInString(word)
	return word[:n]
}

// listing reads up to 20 pages of users by name; whole says that these are all.
func (s *suite) listing(ctx context.Context, query string) (all []protocol.ListEntry, whole bool, err error) {
	req := protocol.ListRequest{Workspace: s.identity.Workspace, Kind: protocol.KindUser, Order: protocol.ByName, Query: query, Limit: 250}
	for range 20 {
		var a protocol.ListAnswer
		if err := s.load(ctx, protocol.CallList, req, &a); err != nil {
			return nil, false, err
		}
		all = append(all, a.Entries...)
		if req.Cursor = a.NextCursor; req.Cursor == "" {
			return all, true, nil
		}
	}
	return all, false, nil
}
