/*
 * One user's place in one channel: boots as of any position meet the events of two topics. Addings come on the user's
 * topic, removals on both, and there is no order across topics. With every place comes a number of mentions: messages
 * raise it, on the channel's topic; a mark on the user's topic sets it.
 *
 * README.md says what is what in cache/. Everything here happens under Cache.mu, so each step is atomic. Loads are single
 * flights (query.Service.users) that begin when the user's topic is followed, and ask for what was applied by then or later.
 */
#ifndef P
#define P 3      /* positions: how much happens in the backend */
#endif
#ifndef LOSSES
#define LOSSES 1 /* resets and unfollowings */
#endif
#define LATER(a, b) ((a) > (b) -> (a) : (b))

/* ---- The backend: its whole history, drawn at the start. Whoever does not look at what is new sees it happen later. ---- */

mtype = { nothing, join, leave, message, mark };

mtype what[P + 1]; /* what was committed at a position */
bit in[P + 1];     /* whether the user is a member as of it */
byte count[P + 1]; /* their mentions */

#define U 0 /* the user's topic */
#define C 1 /* the channel's */
/* Who tells what. A message and a mark are said on one topic each. */
#define TELLS(t, q) (what[q] == leave || what[q] == (t == U -> join : message) || t == U && what[q] == mark)

inline history() {
	if
	:: in[0] = 0
	:: in[0] = 1
	fi;
	for (i : 1 .. P) {
		in[i] = in[i - 1]; count[i] = count[i - 1];
		if
		:: what[i] = nothing
#ifdef MENTIONS
		:: in[i] -> what[i] = message; count[i]++
		:: in[i] -> what[i] = mark; count[i] = 0
		:: !in[i] -> what[i] = join; in[i] = 1; count[i] = 0
#else
		:: !in[i] -> what[i] = join; in[i] = 1
		:: in[i] -> what[i] = leave; in[i] = 0
#endif
		fi;
		printf("commit %d: %e; member %d, mentions %d\n", i, what[i], in[i], count[i])
	}
	i = 0
}

/* A position from lo on. */
inline any(x, lo) {
	if
	:: lo <= 0 -> x = 0
	:: lo <= 1 && P >= 1 -> x = 1
	:: lo <= 2 && P >= 2 -> x = 2
	:: lo <= 3 && P >= 3 -> x = 3
	:: lo <= 4 && P >= 4 -> x = 4
	fi
}

/* ---- The cache. ---- */

bit followed[2];
byte next[2];    /* events up to here have come */
byte logFrom[2]; /* those above here that have come are in the log; never below the position it is followed from */
byte losses, applied;
bit loading;

#define REACHES(t, p) (p >= logFrom[t])

/* The user's state. */
bit held, gone;    /* gone: void */
byte at;           /* what the user's topic told up to here is in it */
bit member;
byte since;        /* of being a member */
byte mentions;
byte readAt;       /* they are as of this position, and of the later messages that have come */
bit waits;         /* for the channel's topic to be followed */
byte left;         /* the last removal that is remembered */

#define USABLE (held && !gone)

/* ---- What is checked. ---- */

byte told;    /* the latest event that the state was told of */
byte removed; /* the latest removal among them */
byte ended;   /* the latest removal that the channel's topic has told of since it is followed */

inline check() {
	if
	:: USABLE && member ->
		/* Nobody is in a channel from which they were removed. */
		assert((removed == 0 || since > removed) && (ended == 0 || waits || since > ended) && in[since])
	:: USABLE && !member ->
		/* Nobody is kept out of a channel that they were added to. */
		i = told;
		do
		:: i <= P && in[i] -> i++
		:: else -> break
		od;
		assert(i <= P);
		i = 0
	:: else
	fi
}

/* ---- cache/userstate.go ---- */

inline exit_channel() { member = 0; since = 0; waits = 0; mentions = 0; readAt = 0 }

inline leave_at(q) {
	if
#ifndef NO_AT
	:: q <= at
#endif
#ifndef NO_REJOINED
	:: member && q <= since /* added again since */
#endif
	:: else ->
#ifndef NO_LEFT
		left = LATER(left, q);
#endif
		exit_channel()
	fi
}

/* User.message */
inline count_message(q) {
	if
	:: q <= since
#ifndef NO_READ_AT
	:: q <= readAt
#endif
	:: else -> mentions++
	fi
}

/* What is in the channel's log above a position. */
inline log_messages(p) {
	j = LATER(p, logFrom[C]) + 1;
	do
	:: j <= next[C] ->
		if
		:: what[j] == message -> count_message(j)
		:: else
		fi;
		j++
	:: else -> break
	od;
	j = 0
}

/* User.read */
inline mark_at(q) {
	if
#ifndef NO_AT
	:: q <= at
#endif
	:: !member || q <= since
	:: else ->
		mentions = count[q]; readAt = q;
		if
		:: waits || next[C] <= q
#ifndef NO_RECOUNT_REACH
		:: !waits && next[C] > q && !REACHES(C, q) -> gone = 1
#endif
		:: else ->
#ifndef NO_RECOUNT
			log_messages(q)
#endif
			skip
		fi
	fi
}

/* replay ties a new member to the channel's topic and brings it up to what it has told since. */
inline replay(whole) {
	if
	:: !followed[C] -> waits = 1
#ifndef NO_JOIN_REACH
	:: followed[C] && whole && !REACHES(C, since) -> gone = 1
#endif
	:: else ->
		waits = 0;
#ifndef NO_JOIN_REPLAY
		log_messages(since);
		j = LATER(since, logFrom[C]) + 1;
		do
		:: j <= next[C] && member && what[j] == leave -> left = LATER(left, j); exit_channel()
		:: j <= next[C] && !(member && what[j] == leave) -> j++
		:: else -> break
		od;
		j = 0
#endif
	fi
}

inline enter(q) {
	entered = 0;
	if
#ifndef NO_AT
	:: q <= at
#endif
#ifndef NO_LEFT
	:: q <= left /* the removal came first, on the other topic */
#endif
	:: else -> member = 1; since = q; mentions = count[q]; readAt = q; waits = 0; entered = 1
	fi
}

inline channel_followed() {
	if
	:: held && member && waits ->
		waits = 0;
		if
#ifndef NO_LATE_FOLLOW
		:: since < logFrom[C] -> gone = 1
#endif
		:: else
		fi
	:: else
	fi
}

/* ---- cache/filluser.go ---- */

inline fill_user() {
	if
	:: !followed[U] /* detached: hangs on nothing */
	:: followed[U] && USABLE && p <= LATER(applied, at) /* as good */
#ifndef NO_OLDER
	:: followed[U] && held && !USABLE && p < at -> printf("older than what was shown: load again\n")
#endif
	:: else ->
		ok = 1;
#ifndef NO_REACH
		ok = REACHES(U, p) && (!in[p] || !followed[C] || REACHES(C, p));
		j = p + 1;
		do
		:: j <= next[U] ->
			if
			:: what[j] == join && followed[C] && !REACHES(C, j) -> ok = 0
			:: else
			fi;
			j++
		:: else -> break
		od;
		j = 0;
#endif
		if
		:: !ok -> printf("outrun\n")
		:: else ->
			was = (held -> left : 0);
			held = 1; gone = 0; at = p; left = 0;
			exit_channel();
			if
			:: in[p] -> member = 1; since = p; mentions = count[p]; readAt = p
			:: else
			fi;
			/* The user's topic first, then the channel's. */
#ifndef NO_FILL_REPLAY
			k = p + 1;
			do
			:: k <= next[U] ->
				if
				:: what[k] == join -> enter(k)
				:: what[k] == leave -> leave_at(k)
				:: what[k] == mark && member && k > since -> mentions = count[k]; readAt = k /* no message was counted yet */
				:: else
				fi;
				k++
			:: else -> break
			od;
			k = 0;
#endif
			if
			:: member -> replay(0)
			:: else
			fi;
#ifndef NO_LEFT_KEPT
			if
			:: was > 0 -> leave_at(was)
			:: else
			fi;
#endif
			was = 0
		fi;
		ok = 0
	fi;
	entered = 0
}

/* ---- The goroutine of the stream. ---- */

inline skip_silence(t) {
	do
	:: next[t] < P && !TELLS(t, next[t] + 1) -> next[t]++
	:: else -> break
	od
}

inline begin(t, q) {
	logFrom[t] = q; next[t] = q;
	printf("topic %d from %d\n", t, q);
	skip_silence(t)
}

/* voidUsersOf: what hangs on the topic. */
inline void_of(t) {
	if
	:: t == C ->
		ended = 0;
#ifndef NO_VOID_CHANNEL
		if
		:: member -> gone = 1
		:: else
		fi
#endif
	:: t == U ->
#ifndef NO_VOID_USER
		gone = 1;
#endif
		removed = 0; told = 0
	fi
}

#ifdef NO_LEFT_WATERMARK
#define LATE_FOR(q) true
#else
#define LATE_FOR(q) (q <= applied)
#endif
#define UPTO(t) (!followed[t] -> P : next[t])

proctype Stream() {
	byte q, i, j, k;
	bit t, entered;
end:
	do
	/* Apply, on the user's topic. */
	:: d_step { followed[U] && next[U] < P ->
		next[U]++; q = next[U];
		skip_silence(U);
		printf("apply %d on the user's topic\n", q);
		if
		:: held && what[q] == join ->
			told = LATER(told, q);
			enter(q);
			if
			:: entered -> replay(1)
			:: else
			fi
		:: held && what[q] == leave -> told = LATER(told, q); removed = LATER(removed, q); leave_at(q)
		:: held && what[q] == mark -> mark_at(q)
		:: else
		fi;
		check();
		q = 0; entered = 0
	}
	/* Apply, on the channel's. */
	:: d_step { followed[C] && next[C] < P ->
		next[C]++; q = next[C];
		skip_silence(C);
		printf("apply %d on the channel's topic\n", q);
		if
		:: what[q] == leave ->
			ended = q;
			if
			:: held -> told = LATER(told, q); removed = LATER(removed, q); leave_at(q)
			:: else
			fi
		:: held && what[q] == message && member -> count_message(q)
		:: else
		fi;
		check();
		q = 0
	}
	/* The log forgets its oldest. */
	:: d_step { followed[U] && logFrom[U] < next[U] -> logFrom[U]++ }
	:: d_step { followed[C] && logFrom[C] < next[C] -> logFrom[C]++ }
	/* Tombstones that no late event can contradict are forgotten. */
	:: d_step { left > 0 && LATE_FOR(left) -> left = 0 }
	/* Followed, from any position: other users need the channel, too. */
	:: atomic { !followed[U] -> any(q, 0); d_step { followed[U] = 1; begin(U, q); q = 0 } }
	:: atomic { !followed[C] -> any(q, 0); d_step { followed[C] = 1; begin(C, q); channel_followed(); check(); q = 0 } }
	/* Reset, to any position. */
	:: atomic { losses < LOSSES && followed[U] -> any(q, next[U]); d_step { losses++; begin(U, q); void_of(U); check(); q = 0 } }
	:: atomic { losses < LOSSES && followed[C] -> any(q, next[C]); d_step { losses++; begin(C, q); void_of(C); check(); q = 0 } }
	/* Unfollowed. While a boot is loaded, query holds the user's topic. */
	:: d_step { losses < LOSSES && followed[U] && !loading ->
		losses++; followed[U] = 0; logFrom[U] = 0; next[U] = 0; void_of(U); printf("topic 0 unfollowed\n")
	}
	:: d_step { losses < LOSSES && followed[C] ->
		losses++; followed[C] = 0; logFrom[C] = 0; next[C] = 0; void_of(C); printf("topic 1 unfollowed\n")
	}
	:: d_step { applied < UPTO(U) && applied < UPTO(C) -> applied++; printf("watermark %d\n", applied) }
	/* Events of another channel were lost. */
	:: d_step { held && !gone -> gone = 1; printf("void\n") }
	/* The state is forced out, or expires. */
	:: d_step { held ->
		held = 0; gone = 0; at = 0; exit_channel(); left = 0; removed = 0; told = 0;
		printf("dropped\n")
	}
	/* Quiet means equal. */
	:: atomic { applied == P && followed[U] && next[U] == P && followed[C] && next[C] == P ->
		assert(!USABLE || member == in[P] && mentions == (in[P] -> count[P] : 0));
		break
	}
	od
}

/* ---- query.Service.loadUser: the user's topic is followed; load; follow the channel from there; fill. ---- */

proctype Loader() {
	byte p, i, j, k, was;
	bit ok, entered;
end:
	do
	:: atomic { followed[U] -> loading = 1; any(p, applied); printf("a boot is read as of %d: member %d\n", p, in[p]) }
		d_step {
			if
			:: in[p] && !followed[C] -> followed[C] = 1; begin(C, p); channel_followed()
			:: else
			fi
		}
		d_step { printf("filled as of %d\n", p); fill_user(); check(); p = 0; loading = 0 }
	od
}

init {
	byte i;
	atomic { history(); run Stream(); run Loader() }
}
