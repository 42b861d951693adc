# The verbs of this project. CI runs the same ones (.ci/run).
#
# Tools come from the pinned module in tools/, so the product's go.mod stays clean; the first use builds them (about
# 2 minutes for golangci-lint on 2 cores), later ones come from Go's build cache.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
# The test suites share two cores and some fixed resources (the build cache, ports); in parallel they only disturb each other.
.NOTPARALLEL:
.DEFAULT_GOAL := help

GO       ?= go
LINT     := $(GO) tool -modfile=tools/go.mod golangci-lint
VULN     := $(GO) tool -modfile=tools/go.mod govulncheck
# A minute each finds what a corpus of known bad inputs does not, and all targets together stay below a coffee break.
FUZZTIME ?= 60s
# Packages whose coverage is promised, and the least it may be, in percent.
COVERED  := ./cache ./query ./fanout ./protocol
COVERMIN := 85
# Race-detected suites are slow on two cores; a test that hangs still ends long before CI's limit.
TIMEOUT  := 10m

# Both `check` and `test` run the whole Go suite, `check` under the race detector. Asked for together, as CI does, it
# runs once, with the detector; only packages that have tests left out under it are run again without.
ifneq (,$(filter check,$(MAKECMDGOALS)))
GOSUITE := test-race
else
GOSUITE := test-go
endif

.PHONY: help
help: ## list the verbs
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

.PHONY: build
build: ## build bin/flannel, static
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/flannel ./cmd/flannel

.PHONY: run
run: build ## a demo workspace of 530 users with backend and edge, in the foreground
	exec ./bin/flannel dev --preset 530

.PHONY: cluster
cluster: build ## the same with three edges that know each other (docs/cluster.md)
	exec ./bin/flannel dev --preset 530 --nodes 3

.PHONY: check
check: fmt vet lint test-race ## format, vet, linters, Go tests under the race detector

.PHONY: test
test: $(GOSUITE) e2e ## every test, with real clients; installs what is missing

.PHONY: e2e
e2e: build e2e/node_modules/.package-lock.json ## only the tests with real clients, and with a real Prometheus
	./e2e/setup.sh clients
	cd e2e && node --test *.test.mjs
	./e2e/setup.sh prometheus
	CI=true $(GO) test ./cmd/flannel -run '^TestPrometheus_' -count 1

# npm writes node_modules/.package-lock.json last, so it stands for a complete installation.
e2e/node_modules/.package-lock.json: e2e/package.json e2e/package-lock.json
	./e2e/setup.sh node
	cd e2e && npm ci --ignore-scripts --no-audit --no-fund
	@touch $@

# What is modelled, and what each guard stands for in the code: docs/model/README.md.
.PHONY: model
model: ## the model of the coherence protocol, checked by spin; without any one of its guards it must fail
	docs/model/run.sh

# What the seeds are made of, and what to do with one that fails: docs/simulation.md.
SEEDS    ?= 1000
.PHONY: sim
sim: ## the simulation with SEEDS (1000) seeds: nodes, backend and clients under faults, all invariants checked
	$(GO) test ./internal/sim -run '^TestSimulation$$' -count 1 -timeout 60m -seeds $(SEEDS)

.PHONY: sim-nightly
sim-nightly: ## twenty times as many seeds, others every night, and longer ones
	$(GO) test ./internal/sim -run '^TestSimulation$$' -count 1 -timeout 5h -seeds 20000 -first $$(( $$(date +%s) / 86400 * 100000 ))
	$(GO) test ./internal/sim -run '^TestSimulation$$' -count 1 -timeout 5h -seeds 1000 -steps 1500 -first $$(( $$(date +%s) / 86400 * 100000 ))

# What the bugs are, and what found each: docs/simulation.md and docs/visibility.md.
SUITE    ?= simulation
.PHONY: mutations
mutations: ## plants bugs one by one and looks whether the tests of SUITE (simulation, or visibility) find each
	$(GO) run ./internal/mutate -suite $(SUITE)

.PHONY: bench
bench: build ## what a boot costs, with and without flannel
	./bin/flannel bench boot

.PHONY: allocs
allocs: ## what the hot paths allocate; fails if one allocates a fifth more than internal/allocs/baseline.txt says
	$(GO) run ./internal/allocs

# Everything that docs/benchmarks.md tells; RUNS=1 OUT=results for a quick look. Stop what else the machine does.
RUNS     ?= 5
OUT      ?= docs/benchmarks
.PHONY: benchmarks
benchmarks: build ## the sitting of docs/benchmarks.md, 25 minutes: tables, figures and pictures in OUT (docs/benchmarks)
	./bin/flannel bench all --runs $(RUNS) --out $(OUT)

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME (60s)
	@found=0; \
	while IFS=: read -r file target; do \
		found=1; echo "== $$(dirname $$file) $$target ($(FUZZTIME))"; \
		$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$(dirname $$file)"; \
	done < <(grep -rHoE --include='*_test.go' --exclude-dir=node_modules '^func Fuzz[A-Za-z0-9_]*' . | sed 's/:func /:/'); \
	if [ $$found = 0 ]; then echo "no fuzz target found" >&2; exit 1; fi

# Only a package's own tests count: what another package's tests happen to pass through, they do not check.
.PHONY: cover
cover: ## coverage of cache, query, fanout, protocol: at least 85 %
	@for p in $(COVERED); do \
		out=$$($(GO) test -coverprofile=cover.out $$p) || { echo "$$out" >&2; exit 1; }; \
		pct=$$($(GO) tool cover -func=cover.out | awk '/^total:/ { sub("%", "", $$3); print $$3 }'); \
		echo "$$p $$pct %"; \
		awk -v p="$$pct" -v m=$(COVERMIN) 'BEGIN { exit !(p >= m) }' || { echo "$$p: below $(COVERMIN) %" >&2; exit 1; }; \
	done; rm -f cover.out

.PHONY: vuln
vuln: ## known vulnerabilities in what we use; asks the public database
	$(VULN) ./...

# The parts of check and test.

.PHONY: fmt vet lint test-race test-go
fmt:
	@out=$$(gofmt -l $$(find . -name '*.go' -not -path '*/node_modules/*' -not -path '*/testdata/*')); \
	if [ -n "$$out" ]; then printf 'not formatted (gofmt -w):\n%s\n' "$$out" >&2; exit 1; fi

vet:
	$(GO) vet ./...

lint:
	$(LINT) run ./...

# Tests that count allocations cannot run under the race detector; their files are tagged so.
test-race:
	$(GO) test -race -timeout $(TIMEOUT) ./...
	@dirs=$$(grep -rlE --include='*_test.go' --exclude-dir=node_modules '^//go:build .*!race' . | xargs -r dirname | sort -u); \
	if [ -n "$$dirs" ]; then echo "$(GO) test (without the detector)" $$dirs; $(GO) test -timeout $(TIMEOUT) $$dirs; fi

test-go:
	$(GO) test -timeout $(TIMEOUT) ./...
