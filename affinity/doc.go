// Package affinity says which node of a region a workspace lives on, so that its objects are cached once and not on every
// node. It is locality, never correctness: any node serves any workspace correctly, and two nodes that disagree for a
// moment do no harm.
//
//	memberlist ─join, update, leave─▶ roster ─▶ View: members, Ring, what is spread ─▶ Place(workspace, user)
//	Crowds: sessions of this node ─▶ Announcement (metadata) ─▶ memberlist
//
// Ring is pure: the same names give the same table on every node. A View is a snapshot that never changes; every question
// is answered from one, without a lock. The node calls Cluster: New binds the gossip's listener, Run joins and keeps the
// view, Drain and Leave say goodbye.
//
// Ownership changes slowly: a member that is suspected, dead for less than the hold-down, restarting or draining keeps its
// workspaces. Where new users are sent changes at once: to nobody who is not there, joining, draining or far above the
// mean. So a node that comes back finds its workspaces, and nobody waits for it.
package affinity
