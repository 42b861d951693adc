/*
 * One object of the cache: loads, the events of its topics, losses and evictions meet in any order.
 *
 * README.md says what is what in cache/. A state of the object is known by its version, which is 1 + the position at which
 * it came to be; 0 is "there is no such object". Every guard has a name; `spin -DNO_name` leaves it out, and then there is
 * a counterexample.
 *
 * Processes are the goroutines: Stream alone calls Apply, Followed, Reset, Unfollowed and Watermark; Filler and Reader
 * are anybody; Ristretto loses what it likes, when it likes. An atomic block is what a mutex or one atomic operation makes
 * so in Go, or what nobody else can see in between.
 *
 * Not everything at once: -DTOPICS=2 lets the object move under another topic, -DABSENT lets loads tell of what does not
 * exist, -DSLOW lets one Fill or Get be overtaken in its middle, and -DCROWDED lets the list of lost loads be full.
 */
#ifndef P
#define P 3 /* positions: how much happens in the backend */
#endif
#ifndef LIVES
#define LIVES 2 /* how often a topic is followed, both together */
#endif
#ifndef LOSSES
#define LOSSES 1 /* resets and unfollowings */
#endif
#ifndef TOPICS
#define TOPICS 1
#endif
#ifdef ABSENT
#define LOADS true /* what is loaded */
#define NEG(s) s
#else
#define LOADS ver[p] > 0
#define NEG(s) skip
#endif
#define LATER(a, b) ((a) > (b) -> (a) : (b))

/* ---- The backend: its whole history, drawn at the start. Whoever does not look at what is new sees it happen later. ---- */

mtype = { nothing, change, move };

byte ver[P + 1];   /* the object's version as of a position */
bit cov[P + 1];    /* the topic that covers it */
mtype what[P + 1]; /* what a commit did to it */

#define TELLS(t, q) (what[q] == move || what[q] == change && cov[q] == (t))

inline history() {
	if
	:: ver[0] = 1
	:: ver[0] = 0
	fi;
	for (i : 1 .. P) {
		cov[i] = cov[i - 1];
		if
		:: ver[i] = i + 1; what[i] = change
		:: ver[i - 1] > 0 -> ver[i] = 0; what[i] = change
		:: TOPICS == 2 && ver[i - 1] > 0 && cov[i] == 0 -> ver[i] = i + 1; cov[i] = 1; what[i] = move
		:: ver[i] = ver[i - 1]; what[i] = nothing
		fi;
		printf("commit %d: version %d, covered by topic %d\n", i, ver[i], cov[i])
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

/* ---- The cache. ---- */

/* A life is one topic value of Cache.topics, from Followed to Unfollowed; 0 is none. */
byte life[2]; /* the life of each topic that is followed */
byte epoch[LIVES + 1];
byte trust[LIVES + 1];
byte lives, losses;

byte applied;                /* the watermark */
byte workspacesFrom, filled; /* topic 0 stands for the workspaces', topic 1 is the object's own */

bit lock; /* of the object's shard */

/* The entry in the object's cell, wherever the cell is. */
typedef Entry {
	byte ver, asof;
	byte life, epoch; /* the link */
	bit neg           /* a load found nothing: it hangs on no link */
};
bit has;
Entry e;

byte touched;         /* position of the last touch in the log, 0 for none */
byte ahead, aheadVer; /* what was loaded ahead of the watermark and lost */
byte horizon;
byte log;             /* position of the event in the recent log: it has room for one, and may forget it earlier */

#ifdef NO_EPOCH
#define LINKED(x) (x.life > 0)
#else
#define LINKED(x) (x.life > 0 && x.epoch > 0 && epoch[x.life] == x.epoch)
#endif
#define VALID (has && (e.neg || LINKED(e)))

/* Links that are not valid any more are all the same. */
inline forget_link() {
	if
	:: has && !e.neg && !LINKED(e) -> e.life = 0; e.epoch = 0
	:: else
	fi
}

/* What is of position a and version v is later than a load of version w as of p. */
#define OUTRUNS(a, v, p, w) (a > p && (v == 0 || v > w))

/* What is lost, or was never kept. */
inline note_ahead(position, version) {
	if
	:: position > applied && ahead < position -> ahead = position; aheadVer = version
#ifdef CROWDED
	:: position > applied && ahead < position -> horizon = LATER(horizon, position) /* there are too many */
#endif
	:: else
	fi
}

inline put(pv, pa, pl, pe, pn) {
	if
#ifdef NO_CELL
	:: has /* ristretto keeps the first of two Sets */
#endif
	:: true -> has = 1; e.ver = pv; e.asof = pa; e.life = pl; e.epoch = pe; e.neg = pn
	fi
}

/* ---- What is checked. ---- */

/* low is a position that nothing served from now on may be below: it rises with what is served and what is applied. */
byte low;
bit losing; /* the stream is inside Reset or Unfollowed */

/* Something of version vs was served to whoever began when low was `since`; it has to be true at some position from there
 * on. If it is kept, nothing older may come after it. */
inline served(vs, since, tracked) {
	i = since;
	do
	:: i <= P && ver[i] != vs -> i++
	:: else -> break
	od;
	printf("served: version %d, where nothing older than %d may be\n", vs, since);
	assert(i <= P);
	if
	:: tracked && i > low -> low = i
	:: else
	fi;
	i = 0
}

/* ---- The goroutine of the stream. ---- */

/* Events up to here were delivered, or do not concern the topic. */
byte next[2];
#define UPTO(t) (life[t] == 0 -> P : next[t])

inline skip_silence(to) {
	do
	:: next[to] < P && !TELLS(to, next[to] + 1) -> next[to]++
	:: else -> break
	od
}

/* The oldest record leaves the log. The horizon rises before the touch is forgotten. */
inline trim() {
	atomic { log > 0 ->
#ifndef NO_HORIZON
		horizon = LATER(horizon, log);
#endif
		printf("the log forgets %d\n", log)
	}
	atomic { !lock ->
		if
		:: touched == log -> touched = 0
		:: else
		fi;
		log = 0
	}
}

inline a_topic() {
	if
	:: life[0] > 0 -> t = 0
	:: life[1] > 0 -> t = 1
	fi
}

proctype Stream() {
	byte q;
	bit t, c, keep;
end:
	do
	/* Apply: first touchObject, with the shard's lock, then rememberLocked. */
	:: atomic { !lock && log == 0 && (life[0] > 0 && next[0] < P || life[1] > 0 && next[1] < P) ->
		if
		:: life[0] > 0 && next[0] < P -> t = 0
		:: life[1] > 0 && next[1] < P -> t = 1
		fi;
		next[t]++;
		q = next[t];
		skip_silence(t);
		printf("apply the event of %d on topic %d\n", q, t);
		low = LATER(low, q);
		c = (ver[q] > 0 -> cov[q] : t);
#ifdef NO_COVER
		c = t;
#endif
		keep = life[c] > 0;
#ifndef NO_EVENT_TRUST
		keep = keep && q >= trust[life[c]];
#endif
#ifndef NO_EVENT_LATER
		keep = keep && touched <= q && ahead <= q;
#endif
#ifndef NO_EVENT_HORIZON
		keep = keep && q >= horizon;
#endif
#ifndef NO_TOUCHED
		touched = LATER(touched, q);
#endif
		if
#ifndef NO_EVENT_ASOF
		:: has && e.asof >= q
#endif
		:: else ->
			if
			:: keep -> put(ver[q], q, life[c], epoch[life[c]], 0)
			:: !keep && has -> put(ver[q], q, 0, 0, 0)
			:: else
			fi
		fi;
		log = q;
		t = 0; c = 0; keep = 0; q = 0
	}
	:: trim()

	/* Followed: from now on, or from a position that somebody has from a load. */
	:: atomic { lives < LIVES && (life[0] == 0 || TOPICS == 2 && life[1] == 0) ->
		if
		:: life[0] == 0 -> t = 0
		:: TOPICS == 2 && life[1] == 0 -> t = 1
		fi;
		any(q, 0);
		lives++;
		trust[lives] = LATER(q, applied);
#ifdef NO_TRUST
		trust[lives] = q;
#endif
		epoch[lives] = 1;
		life[t] = lives; next[t] = q;
		printf("topic %d followed from %d\n", t, q);
		skip_silence(t);
		if
		:: t == 0 -> NEG(workspacesFrom = LATER(workspacesFrom, trust[lives]))
		:: else
		fi;
		t = 0; q = 0
	}

	/* Reset: what happened up to some position is lost. Readers look at the epoch first, so it is written last. */
	:: atomic { losses < LOSSES && (life[0] > 0 || life[1] > 0) ->
		a_topic();
		any(q, next[t]);
		losses++; losing = 1;
		next[t] = q;
		printf("topic %d reset to %d\n", t, q);
		skip_silence(t);
#ifdef NO_EPOCH_LAST
		epoch[life[t]]++
#else
		trust[life[t]] = LATER(q, applied)
#endif
	}
		atomic {
#ifdef NO_EPOCH_LAST
			trust[life[t]] = LATER(q, applied);
#else
			epoch[life[t]]++;
#endif
			if
			:: t == 0 -> NEG(workspacesFrom = LATER(workspacesFrom, trust[life[t]]))
			:: else
			fi;
			forget_link(); losing = 0; t = 0; q = 0
		}

	/* Unfollowed. */
	:: atomic { losses < LOSSES && (life[0] > 0 || life[1] > 0) ->
		a_topic();
		losses++; losing = 1;
#ifndef NO_NEG_END
		NEG(workspacesFrom = LATER(workspacesFrom, LATER(next[t], filled)));
#endif
		q = life[t]; life[t] = 0;
		printf("topic %d unfollowed\n", t)
	}
		atomic {
#ifdef NO_END
			epoch[q]++;
#else
			epoch[q] = 0; /* for good: who has found the topic before cannot tie to it either */
#endif
			forget_link(); next[t] = 0; losing = 0; t = 0; q = 0
		}

	/* Watermark, and forgetAhead. */
	:: atomic { !lock && applied < UPTO(0) && applied < UPTO(1) ->
		applied++;
		printf("watermark %d\n", applied);
		if
		:: ahead > 0 && ahead <= applied -> ahead = 0; aheadVer = 0
		:: else
		fi
	}

	/* Quiet means equal, and what is loaded now can be kept. */
	:: atomic { !lock && applied == P ->
		assert(!VALID || e.neg || e.ver == ver[P]);
		assert(horizon <= P && touched <= P && ahead <= P);
		break
	}
	od
}

/* ---- Fill: the answer to a load, as of any position at all. It has the shard's lock from beginning to end. ---- */

#ifdef NO_VOID
#define ENTRY_COUNTS VALID
#else
#define ENTRY_COUNTS true
#endif

inline fill_begin() {
	since = low;
	any(p, 0);
	if
	:: LOADS
	:: else -> goto out
	fi;
	v = ver[p];
	printf("fill as of %d: version %d\n", p, v);
	NEG(filled = LATER(filled, p));
	/* outrunLocked */
	if
#ifndef NO_ENTRY
	:: VALID && e.asof >= p -> served(e.ver, since, 1); goto out
#endif
#ifndef NO_TOUCHED
	:: touched > p -> goto out
#endif
#ifndef NO_AHEAD
	:: OUTRUNS(ahead, aheadVer, p, v) -> goto out
#endif
#ifndef NO_ENTRY
	:: has && ENTRY_COUNTS && OUTRUNS(e.asof, e.ver, p, v) -> goto out
#endif
	:: else
	fi;
	if
	:: v > 0 -> l = life[cov[p]]
	:: v == 0 ->
		if
#ifndef NO_NEG_HORIZON
		:: p < horizon -> goto out
#endif
		:: else ->
			if
			:: life[1] > 0 -> from = trust[life[1]]
			:: else
			fi
		fi
	fi
}

#ifdef NO_FILL_TRUST
#define DISTRUSTED false
#else
#define DISTRUSTED (p < trust[l])
#endif

inline fill_end() {
	if
	:: v == 0 ->
		from = LATER(from, workspacesFrom);
#ifdef NO_NEG_FROM
		from = 0;
#endif
		put(0, p, 0, 0, (p >= from));
		if
		:: life[cov[p]] > 0 && p >= trust[life[cov[p]]] -> served(0, since, 1)
		:: else
		fi
#ifndef NO_FOLLOWED
	:: v > 0 && (l == 0 || DISTRUSTED) ->
		/* Served and not kept: reads.pml needs that it is remembered. What is older goes. */
		note_ahead(p, v);
		if
		:: has && e.asof < p -> put(v, p, 0, 0, 0)
		:: else
		fi
#endif
#ifndef NO_FILL_HORIZON
	:: v > 0 && l > 0 && !DISTRUSTED && p < horizon
#endif
	:: else -> put(v, p, l, ep, 0); forget_link(); served(v, since, 1)
	fi
}

/* At any time, in no time. */
proctype Filler() {
	byte p, v, l, ep, from, since, i;
end:
	do
	:: atomic { !lock -> fill_begin(); ep = epoch[l]; fill_end();
out:
		p = 0; v = 0; l = 0; ep = 0; from = 0; since = 0
	}
	od
}

/* Once, slowly: what is read without Cache.mu changes meanwhile. */
proctype SlowFiller() {
	byte p, v, l, ep, from, since, i;
	atomic { !lock -> lock = 1; fill_begin() }
	atomic { ep = epoch[l] }
	atomic { fill_end() }
out:
	atomic { p = 0; v = 0; l = 0; ep = 0; from = 0; since = 0; lock = 0 }
}

/* ---- Get, without a lock: first the watermark, then the entry, then its link. ---- */

#define AS_OF_FLOOR(x) (LATER(x.asof, applied) >= floor)
#ifdef NO_APPLIED_FIRST
#define FLOOR_BEFORE true
#define FLOOR_AFTER AS_OF_FLOOR(x)
#else
#define FLOOR_BEFORE AS_OF_FLOOR(e)
#define FLOOR_AFTER true
#endif

inline get_begin() {
	any(floor, 0);
	since = LATER(low, floor);
	printf("get, not below %d\n", floor);
	if
	:: has && e.neg ->
		if
		:: e.asof >= floor -> served(0, since, 0)
		:: else
		fi;
		goto out
	:: has && !e.neg && LINKED(e) && FLOOR_BEFORE -> x.ver = e.ver; x.asof = e.asof; x.life = e.life; x.epoch = e.epoch
	:: else -> goto out
	fi
}

inline get_end() {
	if
	:: LINKED(x) && FLOOR_AFTER ->
		/* Nothing survives a loss. */
		assert(losing || (life[0] == x.life || life[1] == x.life) && x.asof >= trust[x.life]);
		served(x.ver, since, 1)
	:: else
	fi
}

proctype Reader() {
	byte floor, since, i;
	Entry x;
end:
	do
	:: atomic { has -> get_begin(); get_end();
out:
		floor = 0; since = 0; x.ver = 0; x.asof = 0; x.life = 0; x.epoch = 0
	}
	od
}

proctype SlowReader() {
	byte floor, since, i;
	Entry x;
	atomic { has -> get_begin()
#ifndef NO_APPLIED_FIRST
		; floor = 0
#endif
	}
	atomic { get_end() }
out:
	atomic { floor = 0; since = 0; x.ver = 0; x.asof = 0; x.life = 0; x.epoch = 0 }
}

/* ---- ristretto, and time. ---- */

proctype Ristretto() {
	byte a, v;
end:
	do
#ifdef NO_PENDING
	/* It takes the cell out first, and says so later. */
	:: atomic { has -> printf("evicted\n"); has = 0; a = e.asof; v = e.ver; e.ver = 0; e.asof = 0; e.life = 0; e.epoch = 0; e.neg = 0 }
		atomic { !lock -> note_ahead(a, v); a = 0; v = 0 }
#else
	:: atomic { has && !lock ->
		note_ahead(e.asof, e.ver);
		printf("evicted\n");
		has = 0; e.ver = 0; e.asof = 0; e.life = 0; e.epoch = 0; e.neg = 0
	}
#endif
	:: atomic { has && e.neg -> e.neg = 0 }
	od
}

init {
	byte i;
	atomic { history(); run Stream(); run Ristretto(); run Filler(); run Reader();
#ifdef SLOW
		if
		:: run SlowFiller()
		:: run SlowReader()
		fi
#endif
	}
}
