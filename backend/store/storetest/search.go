package storetest

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"flannel/backend/store"
	"flannel/protocol"
)

// fillSearch adds what the searches look for: names that share beginnings, that fold, that are written in other scripts.
func fillSearch(tx store.Tx) error {
	var shapes []protocol.Shape
	for i, names := range [][2]string{
		{"Ann Smith", "annie"}, {"Anna Smithson", "Änna"}, {"Zoë O'Neil", "zoe.o_neil"}, {"José Ångström", "JOSÉ"}, {"ann", "ANN"}, {"smith ann", ""},
		{"山田 太郎", "山田"}, {"Jean-Luc d'Arc", "jl"}, {"O2 100%_sure", "100%"}, {"Maria de la Cruz y Sol", "maria"}, {"x", "a b c d e f g"}, {"Ann Smith", "annie"},
	} {
		u := user(protocol.UserID(fmt.Sprintf("U6%02d", i)), home, fmt.Sprintf("handle%d", i))
		u.RealName, u.Profile.RealName, u.Profile.DisplayName = names[0], names[0], names[1]
		u.Profile.Email, u.Deleted, u.IsBot = fmt.Sprintf("mail%d.box@corp.example", i), i == 4, i == 5
		shapes = append(shapes, u)
	}
	archived, abroad, hidden := channel("C6OLD", "old-plans"), channel("C6ABROAD", "plans-abroad"), channel("C6HIDDEN", "plans-hidden")
	archived.IsArchived = true
	abroad.ContextTeamID, abroad.IsShared, abroad.SharedTeamIDs = other, true, []protocol.WorkspaceID{other, home}
	hidden.IsPrivate = true
	shapes = append(shapes, archived, abroad, hidden, channel("C6PLANS", "plans"),
		&protocol.Emoji{Workspace: home, Name: "party_parrot", Value: "x", Updated: 1}, &protocol.Emoji{Workspace: other, Name: "party", Value: "x", Updated: 1},
		&protocol.Bot{ID: "B6", TeamID: home, Name: "Plan Bot", Updated: 1},
		&protocol.Usergroup{ID: "S6", TeamID: home, Name: "Écoute Planning", Handle: "listeners", DateUpdate: 1})
	for _, s := range shapes {
		if err := tx.Put(s); err != nil {
			return err
		}
	}
	return nil
}

func testListQuery(t *testing.T, st store.Store) {
	world(t, st)
	update(t, st, fillSearch)
	queries := []string{
		"a", "an", "ann", "ANN", "änn", "ann s", "s ann", "smith an", "ann smith annie", "smiths", "mith", "nn", "o", "o neil", "o'n", "zoë.o", "jose ang", "ång",
		"山", "山田", "田", "太 山", "jean-l", "luc arc d", "mail1", "mail1.box@corp.ex", "box", "handle1", "han", "real", "example", "nobody", "annx", "x",
		"maria de la cruz y sol", "sol y cruz la de mar", "maria de la cruz y luna", "a b c d e f g handle10 mail10", "g f e d c b a z",
		"100", "100%", "%", "_", "*", `"`, "'", "' OR 1=1 --", "ann*", "a\x00b", " ", "plan", "plans ab", "pa pa", "eco", "listen plan", "\xff",
	}
	view(t, st, func(r store.Reader) error {
		for _, kind := range []protocol.Kind{protocol.KindUser, protocol.KindChannel, protocol.KindEmoji, protocol.KindBot, protocol.KindUsergroup} {
			for _, order := range []protocol.ListOrder{protocol.ByID, protocol.ByName} {
				req := protocol.ListRequest{Workspace: home, Kind: kind, Order: order, Limit: 100}
				all, err := pages(r, req)
				if err != nil {
					return err
				}
				for _, req.Query = range queries {
					words := protocol.SearchWords(req.Query)
					want := slices.DeleteFunc(slices.Clone(all), func(e protocol.ListEntry) bool { return !e.Matches(words) })
					for _, req.Limit = range []int{2, 100} {
						got, err := pages(r, req)
						if err != nil {
							return fmt.Errorf("query %q: %w", req.Query, err)
						}
						if !slices.Equal(got, want) {
							return fmt.Errorf("%s by %s, query %q, limit %d: %v, want %v", kind, order, req.Query, req.Limit, entryIDs(got), entryIDs(want))
						}
					}
				}
			}
		}
		// The model finds what people would: names as they are typed, in any order, by their beginnings.
		var errs []error
		for query, want := range map[string][]protocol.ObjectID{
			"smith an": {"U600", "U601", "U605", "U611"}, "jose ang": {"U603"}, "maria de la cruz": {"U609"}, "mail1.box": {"U601", "U610", "U611"},
		} {
			got, err := pages(r, protocol.ListRequest{Workspace: home, Kind: protocol.KindUser, Order: protocol.ByID, Query: query, Limit: 10})
			errs = append(errs, err, sameList(query, entryIDs(got), want...))
		}
		got, err := pages(r, protocol.ListRequest{Workspace: home, Kind: protocol.KindChannel, Order: protocol.ByName, Query: "plan", Limit: 10})
		return errors.Join(append(errs, err, sameList("plan", entryIDs(got), "C6OLD", "C6PLANS", "C6ABROAD"))...)
	})
}

// testListQueryFollows renames, buries and ends sharing: searches go by what is there now.
func testListQueryFollows(t *testing.T, st store.Store) {
	world(t, st)
	update(t, st, fillSearch)
	find := func(kind protocol.Kind, query string, want ...protocol.ObjectID) {
		t.Helper()
		view(t, st, func(r store.Reader) error {
			got, err := pages(r, protocol.ListRequest{Workspace: home, Kind: kind, Order: protocol.ByID, Query: query, Limit: 10})
			return errors.Join(err, sameList(query, entryIDs(got), want...))
		})
	}
	find(protocol.KindUser, "smiths", "U601")
	update(t, st, func(tx store.Tx) error {
		u := user("U601", home, "handle1")
		u.RealName, u.Profile.DisplayName, u.Updated = "Anna Jones", "", 11
		hidden := channel("C6PLANS", "plans")
		hidden.IsPrivate, hidden.Updated = true, 11
		abroad := channel("C6ABROAD", "plans-abroad")
		abroad.ContextTeamID, abroad.Updated = other, 11
		return errors.Join(tx.Put(u), tx.Put(hidden), tx.Put(abroad), tx.Bury("U606", 11), tx.Bury("C6OLD", 11))
	})
	find(protocol.KindUser, "smiths")
	find(protocol.KindUser, "anna jo", "U601")
	find(protocol.KindUser, "山")
	find(protocol.KindChannel, "plans")
}
