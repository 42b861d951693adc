/*
 * One session reads one object through a node: floors, what loads ask for, whose answer may be shared, and reading one's
 * own writes. What the cache keeps is taken to be right, which objects.pml shows: here are the duties of those around it.
 *
 * README.md says what is what in query/, upstream/ and edge/. The backend may answer a load as of any position that is not
 * below what was asked for, as a replica does that lags.
 */
#ifndef P
#define P 3     /* positions: how much happens in the backend */
#endif
#ifndef FOLLOWS
#define FOLLOWS 2 /* how often the object's topic is followed */
#endif
#define LATER(a, b) ((a) > (b) -> (a) : (b))

/* ---- The backend: its whole history, drawn at the start. Whoever does not look at what is new sees it happen later. ---- */

byte ver[P + 1]; /* the object's version as of a position: where it changed last */

inline history() {
	for (i : 1 .. P) {
		if
		:: ver[i] = i
		:: ver[i] = ver[i - 1]
		fi;
		printf("commit %d: version %d\n", i, ver[i])
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
	fi
}

/* ---- What is checked. ---- */

byte told; /* nothing older may be shown to the session: it has seen this, heard of it, or written it */

/* ---- The node. ---- */

byte floor;  /* User.Floor of the session's user */
byte filled; /* the latest position of a load that came */

bit followed, down;
byte follows;
byte trust, delivered; /* of the topic */
byte applied;          /* the watermark */
bit has;               /* the entry */
byte e_ver, e_asof;
byte touched, ahead;   /* what is known of what is lost; here nothing is forgotten */

/* The entry is void or gone. */
inline lose() {
	if
	:: has && e_asof > applied -> ahead = LATER(ahead, e_asof)
	:: else
	fi;
	has = 0; e_ver = 0; e_asof = 0
}

/* What is served and not kept is remembered until the watermark has passed it. */
inline discard(p) {
	lose();
#ifndef NO_DISCARD
	if
	:: p > applied -> ahead = LATER(ahead, p)
	:: else
	fi
#endif
}

/* Cache.Fill, as of p: what is known is later, or it is kept, or not. */
inline fill(p) {
	filled = LATER(filled, p);
	again = 0;
	if
	:: has && e_asof >= p -> v = e_ver
#ifndef NO_AGAIN
	:: !(has && e_asof >= p) && (touched > p || ahead > p) -> again = 1
#endif
	:: else ->
		v = ver[p];
		if
		:: followed && p >= trust -> has = 1; e_ver = v; e_asof = p
		:: else -> discard(p)
		fi
	fi
}

#define UPTO (followed -> delivered : P)

proctype Stream() {
	byte q;
end:
	do
	:: d_step { followed && !down && delivered < P ->
		delivered++;
		if
		:: ver[delivered] == delivered ->
			printf("event %d\n", delivered);
			touched = LATER(touched, delivered);
			if
			:: has && e_asof < delivered -> e_ver = ver[delivered]; e_asof = delivered
			:: else
			fi;
			told = LATER(told, delivered) /* the session hears of it */
		:: else
		fi
	}
	:: d_step { !down && applied < UPTO ->
		applied++;
		if
		:: ahead <= applied -> ahead = 0
		:: else
		fi;
		printf("watermark %d\n", applied)
	}
	:: atomic { !followed && !down && follows < FOLLOWS ->
		any(q, 0);
		d_step {
			follows++; followed = 1; trust = LATER(q, applied); delivered = q;
			printf("followed from %d\n", q);
			q = 0
		}
	}
	:: d_step { followed -> followed = 0; lose(); trust = 0; delivered = 0; printf("unfollowed\n") }
	:: d_step { has -> lose(); printf("evicted\n") }
	:: d_step { !down -> down = 1; printf("stream down\n") }
	:: d_step { down -> down = 0; printf("stream up\n") }
	od
}

/* ---- upstream's batcher: one load on its way, which others may join. ---- */

mtype = { none, open, sent, back };
mtype flight = none;
byte promise, answer;
bit mine; /* the session waits for it */

proctype Backend() {
end:
	do
	/* Somebody else asks; they have not seen what the session has. */
	:: d_step { flight == none && !mine -> flight = open; promise = 0; printf("somebody else asks for the object\n") }
	:: d_step { flight == open -> flight = sent }
	:: atomic { flight == sent ->
		any(answer, promise);
		printf("answered as of %d\n", answer);
		if
		:: mine -> flight = back
		:: else -> flight = none; promise = 0; answer = 0
		fi
	}
	od
}

/* Others load what they like. */
proctype Others() {
	byte p, v;
	bit again;
end:
	do
	:: atomic { !down -> any(p, 0);
		d_step {
			fill(p);
			printf("somebody else's load comes, as of %d\n", p);
			again = 0; v = 0;
			p = 0
		}
	}
	od
}

/* ---- The session: one call after the other. ---- */

/* An answer to a call that began when `before` was known. */
inline shown(v) {
	i = before;
	do
	:: i <= P && ver[i] != v -> i++
	:: else -> break
	od;
	printf("shown: version %d, when %d was known\n", v, before);
	assert(i <= P);
	told = LATER(told, i);
	i = 0
}

#ifdef NO_FLOOR
#define KNOWN has
#else
#define KNOWN (has && LATER(e_asof, applied) >= floor)
#endif
#ifdef NO_JOIN
#define WILL_DO true
#else
#define WILL_DO (promise >= ask)
#endif

proctype Session() {
	byte i, ask, before, v;
	bit again;
end:
	do
	/* A write is answered when the node has seen it, or, after a bounded wait, with a floor. */
	:: atomic { !down && told < P ->
		any(ask, told + 1);
		d_step {
			printf("wrote %d\n", ask);
#ifndef NO_WRITE_FLOOR
			if
			:: applied < ask -> floor = LATER(floor, ask)
			:: else
			fi;
#endif
			told = ask; ask = 0
		}
	}
	/* What only members may see. */
#ifdef NO_DOWN
	:: d_step { true -> assert(!down) }
#else
	:: d_step { !down -> assert(!down) }
#endif
	/* A read of what is in the cache. */
	:: d_step { KNOWN -> before = told; shown(e_ver); before = 0 }
	/* A read of what is not. */
	:: d_step { !down && !KNOWN ->
		before = told;
		ask = floor;
#ifdef NO_FLOOR
		ask = 0;
#endif
#ifndef NO_FILLED
		ask = LATER(ask, filled);
#endif
#ifndef NO_AT_LEAST
		ask = LATER(ask, applied)
#endif
	}
wait:
		if
		:: d_step { flight == none -> flight = open; promise = ask; mine = 1 }
		:: d_step { flight == open ->
			mine = 1;
#ifndef NO_JOIN
			promise = LATER(promise, ask)
#endif
		}
		:: d_step { flight == sent && WILL_DO -> mine = 1; printf("joins\n") }
		fi;
		d_step { flight == back -> flight = none; mine = 0; promise = 0;
			fill(answer);
			if
			:: again -> ask = LATER(ask, applied)
			:: else -> shown(v); ask = P + 1
			fi;
			again = 0; v = 0;
			answer = 0
		}
		if
		:: d_step { ask == P + 1 -> ask = 0; before = 0 }
		:: ask <= P -> goto wait
		fi
	od
}

init {
	byte i;
	atomic { history(); run Stream(); run Backend(); run Others(); run Session() }
}
