# SPDX-License-Identifier: GPL-2.0-or-later
# `make bench`: espwire beside its peers in one run (docs/performance.md). The peers' packages are asked for
# only here, and ipsec-secgw, which no package holds, is built from Debian's source of dpdk.
BENCH_SRC := $(wildcard bench/*.c)
BENCH_BIN := $(patsubst bench/%.c,$(B)/bench/%,$(BENCH_SRC))

$(B)/bench:
	$(Q)mkdir -p $@

$(B)/bench/%: bench/%.c $(SHARED_OBJ) | $(B)/bench
	$(call msg,CC,$<)
	$(Q)$(CC) $(CFLAGS_ALL) -Wno-missing-prototypes $(LDFLAGS_ALL) -o $@ $< $(SHARED_OBJ) $(LIBS)

deps-bench: ## install the peers of `make bench` (as root)
	apt-get -q update
	xargs -a bench/packages.txt apt-get install -q -y --no-install-recommends

bench-tools: $(BENCH_BIN)

bench: all $(BENCH_BIN) ## espwire beside its peers: 8 minutes, FULL=1 an hour; CASES= IMPLS= ROUNDS= select (root)
	@B=$(B) FULL=$(FULL) CASES="$(CASES)" IMPLS="$(IMPLS)" ROUNDS="$(ROUNDS)" bench/run

.PHONY: deps-bench bench-tools bench
