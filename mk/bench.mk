# SPDX-License-Identifier: GPL-2.0-or-later
# `make bench`: espwire beside its peers in one run (docs/performance.md). The peers' packages are asked for
# only here, and ipsec-secgw, which no package holds, is built from Debian's source of dpdk.
BENCH_BIN := $(patsubst bench/%.c,$(B)/bench/%,$(filter-out %.bpf.c,$(wildcard bench/*.c)))
BENCH_DEPS := $(B)/bench/.deps

$(B)/bench:
	$(Q)mkdir -p $@

$(B)/bench/%.bpf.o: bench/%.bpf.c bpf/kdefs.bpf.h | $(B)/bench
	$(call msg,BPF,$<)
	$(Q)$(CLANG) -g -O2 -Wall -Wextra -Werror -Wno-unused-parameter -mcpu=v3 -target bpf -Ibpf $(UAPI) -c $< -o $@

$(B)/bench/%.skel.h: $(B)/bench/%.bpf.o
	$(call msg,SKEL,$@)
	$(Q)$(BPFTOOL) gen skeleton $< name $*_bpf > $@

$(B)/bench/xdpblast: $(B)/bench/xdpblast.skel.h
$(B)/bench/bare: $(B)/bench/bare.skel.h
$(B)/bench/%: bench/%.c $(SHARED_OBJ) | $(B)/bench
	$(call msg,CC,$<)
	$(Q)$(CC) $(CFLAGS_ALL) -Wno-missing-prototypes $(LDFLAGS_ALL) -I$(B)/bench -o $@ $< $(SHARED_OBJ) $(LIBS)

deps-bench: ## install the peers that `make bench` compares with (as root)
	@apt-get -q update
	@xargs -a bench/packages.txt apt-get install -q -y --no-install-recommends || \
		for p in $$(cat bench/packages.txt); do apt-get install -q -y --no-install-recommends $$p || echo "no package $$p"; done

# A peer that cannot be installed becomes a row with a note, so nothing here fails.
$(BENCH_DEPS): bench/packages.txt | $(B)/bench
	@missing=$$(for p in $$(cat bench/packages.txt); do \
		dpkg-query -W -f='$${db:Status-Status}\n' $$p 2>/dev/null | grep -qx installed || echo $$p; done); \
	[ -z "$$missing" ] || $(MAKE) --no-print-directory deps-bench >$(B)/bench/deps.log 2>&1 || \
		echo "some peers could not be installed: $(B)/bench/deps.log"
	@touch $@

bench-tools: $(BENCH_BIN)
check: $(BENCH_BIN)

bench: all $(BENCH_BIN) $(BENCH_DEPS) ## espwire beside its peers, 8 minutes; FULL=1 an hour; CASES= IMPLS= ROUNDS= (root)
	@B=$(B) FULL=$(FULL) CASES="$(CASES)" IMPLS="$(IMPLS)" ROUNDS="$(ROUNDS)" bench/run

bench-vm: all $(BENCH_BIN) $(BENCH_DEPS) ## beside the kernel's XFRM and WireGuard, in instructions, in a guest; KERNEL=6.1 IMPLS= ROUNDS=
	@B=$(B) VM_DIR=$(VM_DIR) KERNEL="$(KERNEL)" IMPLS="$(IMPLS)" ROUNDS="$(ROUNDS)" bench/run-vm

.PHONY: deps-bench bench-tools bench bench-vm
