# SPDX-License-Identifier: GPL-2.0-or-later
# The test layers above the unit tests, and `make test` that runs them all.
NET_TOOLS := $(B)/net/sniff $(B)/net/mapbytes $(B)/net/impair $(B)/net/mutate $(B)/net/flow $(B)/net/clockshift.so \
	$(B)/net/nlcount.so $(B)/net/udpblast

$(B)/net:
	$(Q)mkdir -p $@

$(B)/net/%: tests/net/%.c | $(B)/net
	$(call msg,CC,$<)
	$(Q)$(CC) -std=gnu11 $(WARN) -O2 -g -D_GNU_SOURCE -o $@ $< -lbpf

$(B)/net/udpblast: bench/udpblast.c $(SHARED_OBJ) | $(B)/net
	$(call msg,CC,$<)
	$(Q)$(CC) $(CFLAGS_ALL) -Wno-missing-prototypes $(LDFLAGS_ALL) -o $@ $< $(SHARED_OBJ) $(LIBS)

$(B)/net/%.so: tests/net/%.c | $(B)/net
	$(call msg,CC,$<)
	$(Q)$(CC) -std=gnu11 $(filter-out -Wmissing-prototypes,$(WARN)) -O2 -D_GNU_SOURCE -shared -fPIC -o $@ $<

net-tools: $(NET_TOOLS)

asan-daemon: ## ipsecd and ipsecctl under AddressSanitizer and UBSan, for ESPWIRE_TEST_FULL=1 (test_mutator)
	@$(MAKE) --no-print-directory B=$(B)/asan CFLAGS="-O1 -g -fno-omit-frame-pointer" \
		HARDEN="-fPIE" SAN="-fsanitize=address,undefined -fno-sanitize-recover=undefined" all

check-net: all ike $(NET_TOOLS) ## namespace tests only (root)
	@B=$(B) tests/run net

check-conform: ## docs/conformance.md and docs/seed.md against the results of the last run
	@B=$(B) tests/conformance/conform.py

test: all ike $(UNIT_BIN) $(UNIT_TOOLS) $(BPF_TEST_BIN) $(NET_TOOLS) ## every layer: unit, BPF programs, namespaces, XFRM in a VM, conformance (root)
	@B=$(B) tests/run unit bpf net vm conform

.PHONY: asan-daemon net-tools check-net check-conform test
