package cache

import "flannel/protocol"

// Traits are what a filter can ask about a user; of a channel, whether it is archived.
type Traits uint8

// The traits.
const (
	TraitGuest Traits = 1 << iota
	TraitBot
	TraitApp
	TraitDeactivated // or archived

	numTraits = 1 << iota
)

// TraitsOf reads them from a list entry.
func TraitsOf(e *protocol.ListEntry) Traits {
	var t Traits
	if e.Guest {
		t |= TraitGuest
	}
	if e.Bot {
		t |= TraitBot
	}
	if e.App {
		t |= TraitApp
	}
	if e.Deleted {
		t |= TraitDeactivated
	}
	return t
}

// Kinds is a set of combinations of traits: what a filter wants.
type Kinds uint16

// KindsOf returns the combinations that want is true for.
func KindsOf(want func(Traits) bool) Kinds {
	var k Kinds
	for t := range Traits(numTraits) {
		if want(t) {
			k |= 1 << t
		}
	}
	return k
}

// Has reports whether a combination is wanted.
func (k Kinds) Has(t Traits) bool { return k&(1<<t) != 0 }
