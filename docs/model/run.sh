#!/usr/bin/env bash
# Checks the model of the coherence protocol with spin: first each model as it is, in the configurations below, which must
# hold; then each guard left out, which must give a counterexample. Exit 1 if anything is not so.
#
#   run.sh                      everything, as `make model` does
#   run.sh deep                 larger configurations as they are: minutes, and up to 8 GB
#   run.sh trail MODEL GUARD    a shortest counterexample, told step by step
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

for tool in spin gcc; do
  command -v "$tool" >/dev/null || { echo "model: $tool is missing (Debian: apt-get install spin gcc libc6-dev)" >&2; exit 1; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# What holds, as it is: model, configuration.
whole() {
  cat <<'END'
objects     -DP=2 -DSLOW
objects     -DP=3 -DLIVES=3 -DLOSSES=2
objects     -DP=3 -DCROWDED
objects     -DP=3 -DTOPICS=2
objects     -DP=2 -DTOPICS=2 -DABSENT
membership  -DP=3
membership  -DP=3 -DMENTIONS
reads       -DP=3
END
}

deep() {
  cat <<'END'
objects     -DP=3 -DSLOW
objects     -DP=2 -DTOPICS=2 -DABSENT -DSLOW
objects     -DP=3 -DTOPICS=2 -DABSENT
membership  -DP=4
membership  -DP=4 -DMENTIONS
reads       -DP=3 -DFOLLOWS=3
END
}

# The guards: model, name, the smallest configuration in which it is missed | what happens without it.
guards() {
  cat <<'END'
objects NO_ENTRY -DP=2 | an older load replaces what is kept
objects NO_VOID -DP=2 | the same, when what is kept is void and was served
objects NO_TOUCHED -DP=2 | an older load comes after the event whose effect was evicted
objects NO_AHEAD -DP=2 | an older load comes after a newer one that was evicted before its event came
objects NO_PENDING -DP=2 | the same, while ristretto has taken it out and not said so
objects NO_HORIZON -DP=2 | an older load comes after the log has forgotten the event
objects NO_FILL_HORIZON -DP=2 | the same: it is kept though the log does not reach back
objects NO_FOLLOWED -DP=2 | what no event will change is kept
objects NO_FILL_TRUST -DP=2 | what is older than the topic's following is kept
objects NO_TRUST -DP=2 | what an earlier life of the topic knew better is kept
objects NO_EVENT_ASOF -DP=2 | an event undoes what a later load has brought
objects NO_EVENT_LATER -DP=2 | an event undoes what was known later and is lost
objects NO_EVENT_HORIZON -DP=2 -DTOPICS=2 -DLOSSES=0 | the same, after the log has forgotten
objects NO_EVENT_TRUST -DP=2 | a replayed event undoes what was served before its topic was followed
objects NO_COVER -DP=2 -DTOPICS=2 -DLOSSES=0 | an object that moves hangs on the topic that it has left
objects NO_EPOCH -DP=2 | what a reset or an unfollowing made void is served
objects NO_EPOCH_LAST -DP=2 | a load from before a reset ties to the topic after it
objects NO_END -DP=2 -DSLOW | a load ties to a topic that has just been unfollowed
objects NO_APPLIED_FIRST -DP=2 -DSLOW | a read takes a new watermark for the old entry in its hand
objects NO_CELL -DP=2 | ristretto keeps the older of two entries on their way
objects NO_NEG_HORIZON -DP=2 -DABSENT | "does not exist" comes after the log has forgotten the creation
objects NO_NEG_FROM -DP=2 -DABSENT | "does not exist" is older than the following of the topic that knew better
objects NO_NEG_END -DP=2 -DABSENT | "does not exist" comes after the topic that knew better was unfollowed
membership NO_LEFT -DP=2 | an adding comes after the removal, which came first on the other topic
membership NO_LEFT_KEPT -DP=2 | the same, after the state was loaded again
membership NO_LEFT_WATERMARK -DP=2 | the same: the tombstone is forgotten too early
membership NO_REJOINED -DP=2 | a removal comes after the next adding
membership NO_AT -DP=2 | an event that is in the boot is applied again
membership NO_OLDER -DP=2 | a boot is older than the state that was shown
membership NO_REACH -DP=2 | a boot is older than the log reaches back
membership NO_FILL_REPLAY -DP=2 | what the user's topic has told since the boot is missed
membership NO_JOIN_REPLAY -DP=2 | what the channel's topic has told since the adding is missed
membership NO_JOIN_REACH -DP=2 | the same: the log does not reach back
membership NO_VOID_USER -DP=2 | events of the user's topic are lost, and the state is served
membership NO_VOID_CHANNEL -DP=2 -DMENTIONS | events of the channel's topic are lost, and the state is served
membership NO_LATE_FOLLOW -DP=2 -DMENTIONS | the channel's topic is followed too late after an adding
membership NO_READ_AT -DP=2 -DMENTIONS | a message that is in a mark's count is counted again
membership NO_RECOUNT -DP=2 -DMENTIONS | messages above a mark that came before it are forgotten
membership NO_RECOUNT_REACH -DP=2 -DMENTIONS | the same: the log does not reach back
reads NO_FLOOR -DP=2 | a session is shown what is older than its own write
reads NO_WRITE_FLOOR -DP=2 | the same, when the node did not see the write in time
reads NO_AT_LEAST -DP=2 | a load brings back what is older than the events that were applied
reads NO_FILLED -DP=2 | a load brings back what is older than what was loaded and shown
reads NO_DISCARD -DP=2 | a load that is older than what was served and not kept is kept
reads NO_AGAIN -DP=2 | a load that events have outrun is shown
reads NO_JOIN -DP=2 | a load that began earlier, for somebody else, is shared
reads NO_DOWN -DP=2 | what only members may see is shown while the stream is down
END
}

# build DIR MODEL CFLAGS FLAG…: makes DIR/pan.
build() {
  local dir=$1 model=$2 cflags=$3
  shift 3
  mkdir -p "$dir"
  cp "$model.pml" "$dir"
  # shellcheck disable=SC2086
  (cd "$dir" && spin "$@" -a "$model.pml" && gcc -w $cflags -DSAFETY -o pan pan.c)
}

# figure FILE WORDS: the number before WORDS in what pan has written.
figure() { sed -nE "s/^[[:space:]]*([0-9.e+]+)[[:space:]]+$2.*/\1/p" "$1" | head -1; }

# holds N MODEL FLAG…: a line of the first table, in the file N.line. What pan cannot search to the end does not hold.
holds() {
  local n=$1 model=$2 dir=$work/$1
  shift 2
  build "$dir" "$model" -O1 "$@" >"$dir.log" 2>&1 || { tail -5 "$dir.log"; return 1; }
  (cd "$dir" && ulimit -v "${LIMIT:-2000000}" && ./pan -m1000000 -w22 >out 2>&1) || true
  local states memory verdict=holds
  states=$(figure "$dir/out" "states, stored")
  memory=$(figure "$dir/out" "total actual memory usage")
  if ! grep -q 'errors: 0' "$dir/out" || grep -qE 'Search not completed|max search depth|out of memory' "$dir/out"; then
    verdict=FAILS
  fi
  printf '%-11s %-36s %10s states %6.0f MB  %s\n' "$model" "$*" "${states:-?}" "${memory:-0}" "$verdict" >"$work/$n.line"
  if [ "$verdict" = FAILS ]; then
    { grep -E '^pan' "$dir/out" || tail -3 "$dir/out"; [ ! -f "$dir/$model.pml.trail" ] || (cd "$dir" && spin "$@" -t "$model.pml"); } >>"$work/$n.line"
    touch "$work/failed"
  fi
}

# missed N WHAT MODEL GUARD FLAG…: a line of the second table. Breadth first, so the counterexample is a shortest one.
missed() {
  local n=$1 what=$2 model=$3 guard=$4 dir=$work/$1
  shift 4
  build "$dir" "$model" "-O0 -DBFS" "-D$guard" "$@" >"$dir.log" 2>&1 || { tail -5 "$dir.log"; return 1; }
  (cd "$dir" && ulimit -v "${LIMIT:-2000000}" && ./pan -w20 >out 2>&1) || true
  local states trail=none
  states=$(figure "$dir/out" "states, stored")
  if [ -f "$dir/$model.pml.trail" ] && grep -q 'assertion violated' "$dir/out"; then
    trail=$(sed -nE 's/.*assertion violated.*\(at depth ([0-9]+)\).*/\1/p' "$dir/out" | head -1)
  else
    touch "$work/failed"
  fi
  printf '%-11s %-18s %8s %6s  %s\n' "$model" "$guard" "${states:-?}" "$trail" "$what" >"$work/$n.line"
  rm -rf "$dir"
}

# both waits while as many runs are under way as there are cores.
slots=$(nproc)
both() { while [ "$(jobs -rp | wc -l)" -ge "$slots" ]; do wait -n || touch "$work/failed"; done; }
finish() { while [ -n "$(jobs -rp)" ]; do wait -n || touch "$work/failed"; done; cat "$work"/*.line; rm -f "$work"/*.line; }

check_whole() {
  local i=100 line
  while read -r line; do
    both
    # shellcheck disable=SC2086
    holds "$i" $line &
    i=$((i + 1))
  done
  finish
}

case "${1:-}" in
"")
  echo "The whole protocol"
  check_whole < <(whole)
  echo
  echo "Without one guard: states seen and steps until something older, wrong or void is served"
  i=100
  while IFS='|' read -r flags what; do
    both
    # shellcheck disable=SC2086
    missed "$i" "${what# }" $flags &
    i=$((i + 1))
  done < <(guards)
  finish
  ;;
deep)
  LIMIT=8000000 check_whole < <(deep)
  ;;
trail)
  flags=$(guards | sed -nE "s/^$2 $3 ([^|]*) \|.*/\1/p")
  [ -n "$flags" ] || { echo "model: no guard $3 in $2" >&2; exit 2; }
  # shellcheck disable=SC2086
  build "$work/t" "$2" "-O0 -DBFS" "-D$3" $flags
  # shellcheck disable=SC2086
  cd "$work/t" && { ./pan -w20 >out 2>&1 || true; } && spin "-D$3" $flags -t "$2.pml" | sed '/^#processes/,$d'
  exit
  ;;
*)
  sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
  exit 2
  ;;
esac

if [ -e "$work/failed" ]; then
  echo "model: a configuration fails, or a guard is not missed" >&2
  exit 1
fi
