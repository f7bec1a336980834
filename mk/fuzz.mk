# SPDX-License-Identifier: GPL-2.0-or-later
# Fuzz harnesses, tests/fuzz/<name>_fuzz.c: by libFuzzer with AddressSanitizer and UBSan (clang), and as
# unit tests <name>_fuzz_test, which replay the corpus and run random inputs (any compiler, `make check`).
FUZZ_SRC := $(wildcard tests/fuzz/*_fuzz.c)
FUZZ_NAMES := $(patsubst tests/fuzz/%_fuzz.c,%,$(FUZZ_SRC))
FUZZ_TEST_BIN := $(patsubst %,$(B)/unit/%_fuzz_test,$(FUZZ_NAMES))
FUZZ_BIN := $(patsubst %,$(B)/fuzz/%_fuzz,$(FUZZ_NAMES))
FUZZ_HDR := $(wildcard tests/fuzz/*.h tests/fuzz/user_bpf/*.h tests/unit/*.h bpf/*.[ch] include/*.h user/*.[ch])
FUZZ_FLAGS := -std=gnu11 -O1 -g -fno-omit-frame-pointer -w -fPIE \
	-fsanitize=address,undefined -fno-sanitize-recover=undefined
UNIT_BIN += $(FUZZ_TEST_BIN)
check: $(FUZZ_TEST_BIN)

# A harness may include modules to reach their insides: their objects are left out, what remains is a library.
fuzz_without = $(shell sed -n 's,^\#include "\(../../user/\)*\([a-z_]*\)\.c".*,$(1)/\2.o,p' tests/fuzz/$*_fuzz.c)

$(B)/unit/%_fuzz_test: tests/fuzz/%_fuzz.c $(FUZZ_HDR) $(SHARED_OBJ) | $(B)/unit
	$(call msg,CC,$<)
	$(Q)$(CC) $(CFLAGS_ALL) -Wno-missing-prototypes -DFUZZ_NAME='"$*"' $(LDFLAGS_ALL) -Itests/unit -Itests/fuzz -Itests/fuzz/user_bpf \
		$(wraps) -o $@ $< $(filter-out $(call fuzz_without,$(B)),$(SHARED_OBJ)) $(LIBS) -lcmocka

$(B)/fuzz/%.o: user/%.c | $(B)/fuzz
	$(call msg,FUZZ-CC,$<)
	$(Q)$(CLANG) $(FUZZ_FLAGS) -fsanitize=fuzzer-no-link $(CPPFLAGS_ALL) -MMD -MP -c $< -o $@
$(B)/fuzz/load.o: $(SKELS)
FUZZ_OBJ := $(patsubst $(B)/%,$(B)/fuzz/%,$(SHARED_OBJ))

$(B)/fuzz/%_fuzz: tests/fuzz/%_fuzz.c $(FUZZ_HDR) $(FUZZ_OBJ)
	$(call msg,FUZZ-LD,$<)
	$(Q)$(CLANG) $(FUZZ_FLAGS) -fsanitize=fuzzer -DFUZZ_LIBFUZZER -DFUZZ_NAME='"$*"' $(CPPFLAGS_ALL) -Itests/unit \
		-Itests/fuzz -Itests/fuzz/user_bpf $(wraps) -o $@ $< $(filter-out $(call fuzz_without,$(B)/fuzz),$(FUZZ_OBJ)) $(LIBS)

# BPF programs read headers where they lie
$(B)/unit/demux_fuzz_test: private SAN += -fno-sanitize=alignment
$(B)/fuzz/demux_fuzz: private FUZZ_FLAGS += -fno-sanitize=alignment

RUNS ?= 1000000
MINUTES ?= $(if $(filter command% environment%,$(origin RUNS)),0,10)
fuzz: $(FUZZ_BIN) $(FUZZ_TEST_BIN) ## libFuzzer over every parser: RUNS=1000000 in all, at most MINUTES=10 (RUNS given: no limit)
	@B=$(B) tests/fuzz/run --runs $(RUNS) --minutes $(MINUTES) $(FUZZ_NAMES)

fuzz-corpus: $(FUZZ_BIN) ## the corpora in the tree again, from what `make fuzz` has found
	@B=$(B) tests/fuzz/run --merge $(FUZZ_NAMES)

-include $(wildcard $(B)/fuzz/*.d)
.PHONY: fuzz fuzz-corpus
