package visibility

import (
	"flag"
	"time"
)

// The flags of long and repeated runs; see docs/visibility.md.
var (
	rounds  = flag.Int("rounds", 0, "rounds of changes, each judged when all is quiet; 0: as many as fit into 20 s")
	seed    = flag.Uint64("seed", 0, "seed of the changes; 0: the day's")
	changes = flag.Int("changes", 150, "changes in a round")
)

// patience bounds every wait: long enough for a loaded machine with the race detector, short enough for a person.
const patience = 30 * time.Second
