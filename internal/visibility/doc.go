// Package visibility tests who sees what, through the whole house: a real backend, two real nodes, and clients of every
// kind at them, while everything changes at random. It knows the rules from section 7 of the plan and the facts from the
// backend's store; no code of query or webapi takes part in judging. See docs/visibility.md.
//
// How a judgement is made. Everything that is not for everybody carries a secret: us~U0ANN.3~ in the name of a user,
// ms~C0OPS.17~ in a message. The ledger (ledger_test.go) knows from the store's rows and its log who was where at every
// position, and since when each secret exists. Every answer and every frame is kept with the positions between which it
// was made. When all is quiet the judge looks for secrets, channel ids and lists of people in them, and asks the oracle
// (oracle_test.go) whether the viewer could see them at some position in between: if not, it is a leak. An event of a
// channel is judged by its place in the channel's topic, exactly. Then everything is read by everybody once more: what
// the oracle gives somebody and the answer does not is wrongly hidden.
package visibility
