package observe

import (
	"fmt"
	"strings"
)

// Boards are the dashboards. What users feel comes first (rate, errors, duration), then what resources do.
func Boards() []Board {
	return []Board{overview, connections, cacheAndBackend, fanout, cluster, runtime, loadTest}
}

// levels has one panel for each service level.
func levels() (panels []Panel) {
	for _, s := range SLOs() {
		panels = append(panels, Panel{
			Title: s.Title + ": bad of all", Unit: "percentunit", Kind: curves, Bad: "Good are " + s.What + ". More than the budget for hours is bad: docs/runbooks/slo-" + s.Name + ".md.",
			Queries: []Query{{s.ratio("5m"), "5 minutes"}, {s.ratio("1h"), "1 hour"}, {s.ratio("6h"), "6 hours"}},
		})
	}
	return panels
}

var overview = Board{
	UID: "flannel-overview", Title: "flannel: overview and service levels", Description: "Is it on fire? What users feel, and how fast the error budgets burn.",
	Rows: []Row{
		{"Now", []Panel{
			{"Sockets", "short", "A cliff is a node that went, or clients that cannot come.", number, []Query{gauge("open", "flannel_connections", "")}},
			{"Nodes whose stream is up", "short", "Fewer than nodes: what they serve is stale.", number, []Query{gauge("up", "flannel_upstream_stream_up", "")}},
			{"Cached things that were wrong", "short", "Anything but 0 is a fault of ours: docs/runbooks/cache-wrong.md.", number, []Query{{`sum(increase(flannel_audit_checks_total{result="mismatch", SEL}[1h])) + sum(increase(flannel_audit_user_checks_total{result="mismatch", SEL}[1h]))`, "in an hour"}}},
			{"Sockets opened", "ops", "Ten times the usual is a reconnect storm.", curves, []Query{rate("{{outcome}}", "flannel_connections_opened_total", "outcome")}},
			{"Boot", "s", "Above 1 s people wait for their client.", curves, []Query{quantile("p50", "flannel_handshake_duration_seconds", "0.5"), quantile("p99", "flannel_handshake_duration_seconds", "0.99")}},
			{"Messages delivered", "ops", "A hole while sockets are open: no events come.", curves, []Query{rate("{{class}}", "flannel_event_deliveries_total", "class")}},
		}},
		{"Service levels", levels()},
	},
}

var connections = Board{
	UID: "flannel-connections", Title: "flannel: connections and reconnects", Description: "Who comes, who goes and why, who is turned away, and what they are told when they come back.",
	Rows: []Row{
		{"Sockets", []Panel{
			{"Open, of the limit", "short", "Near the limit new clients are turned away.", curves, []Query{gauge("open", "flannel_connections", ""), gauge("limit", "flannel_connections_limit", "")}},
			{"Opened", "ops", "failed, overloaded and unavailable are ours.", curves, []Query{rate("{{outcome}}", "flannel_connections_opened_total", "outcome")}},
			{"Closed", "ops", "Codes from 4000 on are in protocol/close.go, with what clients do then.", curves, []Query{rate("{{code}} by {{initiator}}", "flannel_connections_closed_total", "code, initiator")}},
			{"Turned away", "ops", "Where there was no room, and why.", curves, []Query{rate("{{stage}} {{reason}}", "flannel_admission_rejected_total", "stage, reason")}},
			{"From upgrade to boot", "s", "Rises in a storm while boots are gathered.", curves, []Query{quantile("p$quantile", "flannel_handshake_duration_seconds", "$quantile")}},
			{"From upgrade to boot, all", "s", "A second band far above the first: some wait for the backend.", heat, []Query{buckets("flannel_handshake_duration_seconds")}},
			{"Between upgrade and boot", "short", "Grows when the backend is slow.", curves, []Query{gauge("sockets", "flannel_handshakes_inflight", "")}},
		}},
		{"Coming back", []Panel{
			{"What they were told", "ops", "resync: they fetch everything again.", curves, []Query{rate("{{mode}}", "flannel_resume_total", "mode")}},
			{"Events told again", "short", "At its bound of thousands, clients were away for long: the next step is resync.", curves, []Query{quantile("p$quantile", "flannel_replay_events", "$quantile")}},
			{"How long sockets were open", "s", "Short lives are clients that come and go in a loop.", curves, []Query{quantile("p50", "flannel_connection_duration_seconds", "0.5")}},
		}},
		{"Compression", []Panel{
			{"Sockets that have agreed on it", "short", "0 while browsers are connected: something on the way takes the offer away.", curves, []Query{gauge("compressed", "flannel_compression_connections", ""), gauge("open", "flannel_connections", "")}},
			{"Bytes of messages, before and after", "Bps", "Hardly a difference: what is sent is not text, and compressing it is for nothing. Events count once, whoever receives them.", curves, []Query{rate("{{direction}} {{form}}", "flannel_compression_bytes_total", "direction, form")}},
			{"Messages, and those that found everything busy", "ops", "busy near out: boots come faster than edge.compression_parallel takes; they go as they are.", curves, []Query{rate("{{direction}}", "flannel_compression_messages_total", "direction"), rate("busy", "flannel_compression_busy_total", "")}},
		}},
		{"Drain and tokens", []Panel{
			{"Draining nodes", "short", "More than a rollout takes at once: sessions move twice.", curves, []Query{gauge("nodes", "flannel_draining", "")}},
			{"Sessions still to go", "short", "Flat above 0: docs/runbooks/drain-stuck.md.", curves, []Query{gauge("sessions", "flannel_drain_remaining_connections", "")}},
			{"Tokens not accepted", "ops", "A jump of invalid_auth is an attack, or keys that were changed.", curves, []Query{rate("{{reason}}", "flannel_auth_failures_total", "reason")}},
			{"New tokens on open sockets", "ops", "asked far above ok: clients do not follow, and lose their connection when the token ends. refused, mismatch: they send what is no use.", curves, []Query{rate("asked", "flannel_token_refresh_asked_total", ""), rate("{{outcome}}", "flannel_token_refresh_total", "outcome")}},
		}},
	},
}

var cacheAndBackend = Board{
	UID: "flannel-cache", Title: "flannel: cache and backend", Description: "What the node knows by itself, and what it asks the backend.",
	Rows: []Row{
		{"Reads", []Panel{
			{"Look-ups", "ops", "misses cost a load; stale ones are served while the backend is away.", curves, []Query{rate("{{result}}", "flannel_cache_lookups_total", "result")}},
			{"Hits of look-ups", "percentunit", "Below 0.8 for long: docs/runbooks/cache-hits-low.md.", curves, []Query{{`sum(rate(flannel_cache_lookups_total{result="hit", SEL}[RATE])) / (sum(rate(flannel_cache_lookups_total{SEL}[RATE])) > 0) or sum(rate(flannel_cache_lookups_total{SEL}[RATE])) * 0`, "hits"}}},
			{"Time of reads", "s", "Above 250 ms people wait: docs/runbooks/slo-query.md.", curves, []Query{quantile("p$quantile", "flannel_query_request_seconds", "$quantile")}},
			{"Time of reads, all", "s", "A second band far above the first: misses that wait for the backend.", heat, []Query{buckets("flannel_query_request_seconds")}},
			{"Calls of the backend", "ops", "Must not grow with the number of clients.", curves, []Query{rate("{{call}}", "flannel_upstream_requests_total", "call")}},
			{"Time of calls", "s", "Rises before breakers open: the backend is overloaded.", curves, []Query{quantile("p$quantile", "flannel_upstream_request_duration_seconds", "$quantile")}},
			{"Lag of the stream", "s", "Above 1 s what is served is older than promised.", curves, []Query{{"max(flannel_upstream_stream_lag_seconds{SEL})", "worst node"}}},
		}},
		{"Cache", []Panel{
			{"Bytes", "bytes", "Objects at their bound with evictions by cost: node.cache.bytes is too small.", curves, []Query{gauge("objects", "flannel_cache_bytes", ""), gauge("member sets", "flannel_cache_member_set_bytes", ""), gauge("directories", "flannel_cache_directory_bytes", "")}},
			{"Items", "short", "Topics or user states that only grow: clients come and never the same.", curves, []Query{gauge("{{kind}}", "flannel_cache_items", "kind")}},
			{"Given up", "ops", "cost: the cache is too small.", curves, []Query{rate("{{reason}}", "flannel_cache_evictions_total", "reason"), rate("not taken in", "flannel_cache_rejected_sets_total", "")}},
			{"Became void", "ops", "A jump of reset: events were lost, and what they covered is loaded again.", curves, []Query{rate("{{source}}", "flannel_cache_invalidations_total", "source")}},
			{"Staleness", "s", "Above 5 s the node has not heard from the backend: docs/runbooks/slo-freshness.md.", curves, []Query{quantile("p$quantile", "flannel_cache_staleness_seconds", "$quantile")}},
			{"Audited", "ops", "mismatch must be 0.", curves, []Query{rate("objects {{result}}", "flannel_audit_checks_total", "result"), rate("users {{result}}", "flannel_audit_user_checks_total", "result")}},
			{"Objects read", "ops", "Many loads with a warm cache: it is too small, or objects are asked for that nobody has.", curves, []Query{rate("{{source}}", "flannel_query_objects_total", "source")}},
			{"Size of boots", "bytes", "Does not grow with the workspace.", curves, []Query{quantile("p$quantile", "flannel_query_boot_bytes", "$quantile")}},
			{"Searches", "ops", "By the backend for long: directories are not loaded.", curves, []Query{rate("by {{by}}", "flannel_query_searches_total", "by")}},
		}},
		{"Backend", []Panel{
			{"In the air, and the limit", "short", "At the limit calls wait. A limit that falls is a backend that slows down.", curves, []Query{gauge("{{call}}", "flannel_upstream_inflight", "call"), gauge("{{call}} limit", "flannel_upstream_limit", "call")}},
			{"Boots that wait", "short", "A storm of new users.", curves, []Query{gauge("waiting", "flannel_upstream_boot_waiting", "")}},
			{"Breakers that are open", "short", "Anything but 0: docs/runbooks/backend-away.md.", curves, []Query{gauge("{{call}}", "flannel_upstream_breaker_state", "call", `state="open"`)}},
			{"Retries", "ops", "As many as calls: the backend fails, and is asked all the more.", curves, []Query{rate("{{call}}", "flannel_upstream_retries_total", "call")}},
			{"Streams lost", "ops", "More than a rollout of the backend explains: docs/runbooks/backend-away.md.", curves, []Query{rate("{{reason}}", "flannel_upstream_stream_reconnects_total", "reason")}},
			{"Topics", "short", "subscribing for long: the backend does not answer. wanted above followed: events are missing.", curves, []Query{gauge("{{state}}", "flannel_upstream_topics", "state")}},
			{"Writes", "ops", "unavailable is ours or the backend's; ratelimited is the client's: docs/runbooks/slo-write.md.", curves, []Query{rate("{{op}} {{outcome}}", "flannel_writes_total", "op, outcome")}},
			{"Time of writes", "s", "It is the backend's time and that of seeing the effect; compare with the time of calls.", curves, []Query{quantile("p$quantile", "flannel_write_duration_seconds", "$quantile")}},
			{"Keys in a load", "short", "1 in a storm: nothing is gathered.", curves, []Query{quantile("p50", "flannel_upstream_batch_size", "0.5")}},
		}},
	},
}

var fanout = Board{
	UID: "flannel-fanout", Title: "flannel: fan-out and presence", Description: "Events on their way to clients.",
	Rows: []Row{
		{"Events", []Panel{
			{"Received", "ops", "A hole while people write: the stream is down.", curves, []Query{rate("{{type}}", "flannel_events_received_total", "type")}},
			{"Delivered", "ops", "A hole while events are received: nobody listens, or outboxes are full.", curves, []Query{rate("{{class}}", "flannel_event_deliveries_total", "class")}},
			{"Dropped", "ops", "control and message: those clients are closed.", curves, []Query{rate("{{class}}", "flannel_events_dropped_total", "class")}},
			{"Until all outboxes have it", "s", "Above a tenth of a second the node has no processor time left.", curves, []Query{quantile("p$quantile", "flannel_fanout_duration_seconds", "$quantile")}},
			{"Wait in the outbox", "s", "Slow sockets, or a node without processor time.", curves, []Query{quantile("p$quantile", "flannel_outbox_wait_seconds", "$quantile")}},
			{"Wait in the outbox, all", "s", "A band that climbs: sockets do not take what is sent.", heat, []Query{buckets("flannel_outbox_wait_seconds")}},
			{"Slow clients closed", "ops", "They fetch everything again, so it feeds itself: docs/runbooks/slow-clients.md.", curves, []Query{rate("closed", "flannel_slow_clients_total", "")}},
		}},
		{"Size", []Panel{
			{"Receivers of an event", "short", "It is what a message costs. A jump is one channel with everybody in it.", curves, []Query{quantile("p50", "flannel_fanout_size", "0.5"), quantile("p99", "flannel_fanout_size", "0.99")}},
			{"Bytes in an outbox", "bytes", "Near node.edge.outbox_bytes clients do not keep up.", curves, []Query{quantile("p$quantile", "flannel_outbox_bytes", "$quantile")}},
			{"Users without a session", "short", "Kept for those who come back.", curves, []Query{gauge("absent", "flannel_fanout_absent_users", "")}},
			{"Objects before events", "ops", "missing: clients have to ask, one by one.", curves, []Query{rate("{{result}}", "flannel_jit_objects_total", "result")}},
			{"Badges", "ops", "More than one a second for each socket is a fault.", curves, []Query{rate("badges", "flannel_badges_total", "")}},
			{"Frames of clients", "ops", "bad: a client that speaks something else. query far above its usual: one asks in a loop.", curves, []Query{rate("{{type}}", "flannel_client_frames_total", "type")}},
		}},
		{"Presence", []Panel{
			{"Changes told", "ops", "Ten times the usual is people who come and go in a loop.", curves, []Query{rate("{{state}}", "flannel_presence_transitions_total", "state"), rate("nothing new", "flannel_presence_coalesced_total", "")}},
			{"Followed", "short", "Falls to 0 while sockets are open: clients do not ask for presence any more.", curves, []Query{gauge("pairs", "flannel_presence_subscriptions", "")}},
			{"Suppressed", "short", "1 in a storm, or switched off.", curves, []Query{gauge("nodes", "flannel_presence_suppressed", "")}},
		}},
	},
}

// cluster has nothing to show of a node that stands alone.
var cluster = Board{
	UID: "flannel-cluster", Title: "flannel: cluster and drain", Description: "Nodes of a region, and what each owns. Empty for a node that stands alone.",
	Rows: []Row{
		{"Members", []Panel{
			{"Members, as each node sees them", "short", "Nodes that differ: docs/runbooks/split-brain.md.", curves, []Query{{"max by (instance, state) (flannel_cluster_members{SEL})", "{{instance}} {{state}}"}}},
			{"Partitions owned", "short", "0 for a node that is active, or one with far more than the others: docs/runbooks/connections-skewed.md.", curves, []Query{{"max by (instance) (flannel_cluster_partitions{SEL})", "{{instance}}"}}},
			{"Sockets of each node", "short", "One far above the others: docs/runbooks/connections-skewed.md.", curves, []Query{{"max by (instance) (flannel_connections{SEL})", "{{instance}}"}}},
			{"Partitions that moved", "ops", "Outside of rollouts: members flap, docs/runbooks/split-brain.md.", curves, []Query{rate("moved", "flannel_cluster_moved_partitions_total", "")}},
			{"Where users were sent", "ops", "stand_in and overflow for long: owners are away or full.", curves, []Query{rate("{{by}}", "flannel_cluster_placements_total", "by")}},
			{"Health", "short", "Above 0 for long a node lacks processor time or network.", curves, []Query{{"max by (instance) (flannel_cluster_health_score{SEL})", "{{instance}}"}}},
		}},
	},
}

var runtime = Board{
	UID: "flannel-runtime", Title: "flannel: runtime", Description: "What the processes use.",
	Rows: []Row{
		{"Use", []Panel{
			{"Processor", "percentunit", "Of one core; at all cores latency rises.", curves, []Query{{"rate(process_cpu_seconds_total{SEL}[RATE])", "{{instance}}"}}},
			{"Resident memory", "bytes", "Grows while sockets do not: a leak. Near the limit the kernel ends the process.", curves, []Query{{"process_resident_memory_bytes{SEL}", "{{instance}}"}}},
			{"Memory, of the limit", "percentunit", "Of what the garbage collector aims at, 80 % of node.memory_limit; near 0 without a limit. Above 1 for long: the collector takes the processor.", curves, []Query{{"process_resident_memory_bytes{SEL} / go_gc_gomemlimit_bytes{SEL}", "{{instance}}"}}},
			{"Memory pressure", "short", "1 drops typing and holds presence back, 2 turns new sockets away, too, 3 closes the sessions for which most waits: docs/runbooks/near-limit.md.", curves, []Query{{"flannel_memory_pressure{SEL}", "{{instance}}"}}},
			{"Files, of the limit", "percentunit", "Above 0.8: docs/runbooks/near-limit.md.", curves, []Query{{"process_open_fds{SEL} / process_max_fds{SEL}", "{{instance}}"}}},
			{"Goroutines", "short", "Growth without an end is a leak.", curves, []Query{{"go_goroutines{SEL}", "{{instance}}"}}},
			{"Waiting for a processor", "s", "Above 10 ms everything is late: the processor is what is missing.", curves, []Query{{"histogram_quantile($quantile, sum by (le, instance) (rate(go_sched_latencies_seconds_bucket{SEL}[RATE])))", "{{instance}}"}}},
			{"Faults", "short", "Anything but 0: docs/runbooks/panics.md.", curves, []Query{rate("panics", "flannel_panics_total", "")}},
		}},
		{"Memory", []Panel{
			{"Heap in use", "bytes", "Grows after each collection while sockets do not: a leak.", curves, []Query{{"go_memstats_heap_inuse_bytes{SEL}", "{{instance}}"}}},
			{"Allocated", "Bps", "A jump without more messages or reads: something marshals again and again.", curves, []Query{{"rate(go_memstats_alloc_bytes_total{SEL}[RATE])", "{{instance}}"}}},
			{"Pauses of the collector", "s", "Above 10 ms deliveries are seen to stop.", curves, []Query{{`go_gc_duration_seconds{quantile=~"1|1.0", SEL}`, "{{instance}}"}}},
		}},
		{"Versions", []Panel{
			{"Versions", "short", "Two for more than a rollout: docs/runbooks/versions-differ.md.", curves, []Query{{"count by (version) (flannel_build_info{SEL})", "{{version}}"}}},
			{"Configurations", "short", "More than one for each node's own: docs/runbooks/versions-differ.md.", curves, []Query{{"count by (hash) (flannel_config_hash_info{SEL})", "{{hash}}"}}},
			{"Up for", "s", "Back to 0: it was restarted, or it crashed.", curves, []Query{{"time() - process_start_time_seconds{SEL}", "{{instance}}"}}},
		}},
	},
}

var loadTest = Board{
	UID: "flannel-load-test", Title: "flannel: load-test run", Description: "What to watch while flannel bench --metrics-listen runs against a node; the generators are a target of their own. The run's result is its report.",
	Rows: []Row{
		{"The run", []Panel{
			{"Sockets", "short", "Fewer than the run has opened: they were closed or turned away.", curves, []Query{gauge("open", "flannel_connections", "")}},
			{"Opened", "ops", "Anything but ok: the run measures refusals.", curves, []Query{rate("{{outcome}}", "flannel_connections_opened_total", "outcome")}},
			{"Deliveries", "ops", "Below publishes times subscribers: the node is at its limit.", curves, []Query{rate("frames", "flannel_event_deliveries_total", "")}},
			{"Reads", "ops", "Below what the run asks: the node is at its limit.", curves, []Query{rate("reads", "flannel_query_requests_total", "")}},
			{"Processor", "percentunit", "As many as the machine has: generator and node take it from each other.", curves, []Query{{"sum(rate(process_cpu_seconds_total{SEL}[RATE]))", "cores"}}},
			{"Memory of a socket", "bytes", "All of the process: it means something with thousands of sockets.", curves, []Query{{"sum(process_resident_memory_bytes{SEL}) / (sum(flannel_connections{SEL}) > 0) or sum(flannel_connections{SEL}) * 0", "bytes"}}},
			{"Calls of the backend", "ops", "Must not grow with the number of clients.", curves, []Query{rate("{{call}}", "flannel_upstream_requests_total", "call")}},
			{"Turned away", "ops", "Anything but 0: the run is above what the node admits.", curves, []Query{rate("{{stage}}", "flannel_admission_rejected_total", "stage")}},
			{"Wait in the outbox", "s", "Above 100 ms under load: the limit is near.", curves, []Query{quantile("p99", "flannel_outbox_wait_seconds", "0.99")}},
		}},
		{"The generators", []Panel{
			{"Tried to connect", "ops", "refused: the node turns them away, or the generators are out of ports.", curves, []Query{loaded("{{server}} {{outcome}}", "flannel_load_connections_opened_total", "server, outcome")}},
			{"Delivered and answered", "ops", "Less than the node says that it sent: the network or the generators are the limit.", curves, []Query{loaded("{{server}} messages", "flannel_load_event_deliveries_total", "server"), loaded("{{server}} answers", "flannel_load_query_requests_total", "server")}},
			{"From when it was due", "s", "Far above the node's own times: it waits in front of the node.", curves, []Query{{"histogram_quantile($quantile, sum by (le, server) (rate(flannel_load_duration_seconds_bucket[RATE])))", "{{server}} p$quantile"}}},
			{"Should not be", "ops", "Anything but 0: messages that were lost or came twice, wrong answers, sockets that the server ended.", curves, []Query{loaded("{{server}} {{fault}}", "flannel_load_event_faults_total", "server, fault"), loaded("{{server}} wrong", "flannel_load_query_requests_total", "server", `outcome="wrong"`), loaded("{{server}} dropped", "flannel_load_connections_dropped_total", "server")}},
			{"Read by the generators", "Bps", "At what the network can do, that is what is measured.", curves, []Query{loaded("{{server}}", "flannel_load_received_bytes_total", "server")}},
			{"Objects", "ops", "Falls while answers do not: they have fewer objects than were asked for.", curves, []Query{loaded("{{server}}", "flannel_load_query_objects_total", "server")}},
		}},
	},
}

// loaded is the sum of the rates of a counter of the generators. They are targets of their own job: what is chosen of nodes is
// not for them.
func loaded(legend, metric, by string, match ...string) Query {
	return Query{fmt.Sprintf("sum by (%s) (rate(%s{%s}[RATE]))", by, metric, strings.Join(match, ", ")), legend}
}
