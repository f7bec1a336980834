# SPDX-License-Identifier: GPL-2.0-or-later
# BPF tests: tests/bpf/<name>_test.c, one cmocka binary each. They need root, no network and no peer.
BPF_TEST_SRC := $(wildcard tests/bpf/*_test.c)
BPF_TEST_BIN := $(patsubst tests/bpf/%.c,$(B)/bpf/%,$(BPF_TEST_SRC))
BPF_TEST_OBJ := $(call obj,user/load.c user/load_tab.c user/load_attach.c user/hostns.c user/log.c user/nl.c user/ns.c \
	user/replay.c user/util.c user/transport.c user/csum.c)

$(B)/bpf:
	$(Q)mkdir -p $@

$(B)/bpf/%: tests/bpf/%.c tests/bpf/rig.h $(BPF_TEST_OBJ) | $(B)/bpf
	$(call msg,CC,$<)
	$(Q)$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) -Itests/bpf -o $@ $< $(BPF_TEST_OBJ) $(LIBS) -lcmocka

check-bpf: $(BPF_TEST_BIN) ## BPF programs and loader only (root)
	@tests/unit/run $(B)/bpf $(BPF_TEST_BIN)

.PHONY: check-bpf
