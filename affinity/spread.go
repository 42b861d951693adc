package affinity

import "iter"

// crowds returns the workspaces that this node says are spread, and over how many shares: those that it is the first owner
// of, or stands in for, and that have more than at sessions. sessions are this node's, as workspace and user.
//
// Only sessions of the first share are counted, times the number of shares: users are even over them, and sessions that
// are still where they were before the workspace was cut do not count again. So nobody has to ask around.
func (v *View) crowds(sessions iter.Seq2[string, string], at, most int) map[string]int {
	first := make(map[string]int)
	for workspace, user := range sessions {
		if Share(user, v.Shares(workspace)) == 0 {
			first[workspace]++
		}
	}
	spread := make(map[string]int)
	for workspace, n := range first {
		k := v.Shares(workspace)
		if want := owners(n*k, at, k, most); want > 1 {
			if p := v.place(workspace, 0, k); p.Owner == v.self || p.Primary == v.self {
				spread[workspace] = want
			}
		}
	}
	return spread
}
