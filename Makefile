# SPDX-License-Identifier: GPL-2.0-or-later
# espwire: one Makefile, not recursive. `make help` lists the targets.
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules
.DEFAULT_GOAL := all
B ?= build
CC ?= gcc
ifeq ($(origin CC),default)
CC := gcc
endif
CLANG ?= clang
BPFTOOL ?= $(firstword $(wildcard /usr/sbin/bpftool) bpftool)
PYTHON ?= /usr/bin/python3
V ?= 0
Q := $(if $(filter 1,$(V)),,@)
msg = $(if $(filter 1,$(V)),,@printf '  %-8s %s\n' "$(1)" "$(2)")

prefix ?= /usr/local
sysconfdir ?= /etc

PKGS := libbpf libxdp libmnl jansson inih libsystemd libcrypto libnftables
# `-march` stays the baseline: the crypto library dispatches at run time.
CFLAGS ?= -O2 -g
WARN := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wno-unused-parameter
HARDEN := -fstack-protector-strong -fPIE -D_FORTIFY_SOURCE=2
CPPFLAGS_ALL := -D_GNU_SOURCE -Iinclude -Iuser -I$(B)
SAN :=
CFLAGS_ALL = -std=gnu11 $(WARN) $(HARDEN) $(CFLAGS) $(SAN) $(CPPFLAGS_ALL)
LDFLAGS_ALL = -pie -Wl,-z,relro,-z,now $(LDFLAGS) $(SAN)
ARCH := $(shell uname -m)
ifeq ($(ARCH),x86_64)
CPPFLAGS_ALL += -DHAVE_IPSEC_MB
MB_LIBS := -lIPSec_MB
endif
LIBS = $(shell pkg-config --libs $(PKGS)) $(MB_LIBS) -lelf -lz -lpthread

# --- what is built from what -------------------------------------------------
DAEMON_MAIN := user/ipsecd.c
CTL_MAIN := user/ipsecctl.c
# ipsecctl is small: what it shares with the daemon, and its own verbs
CTL_SRC := $(CTL_MAIN) $(wildcard user/ctl_*.c) $(wildcard user/cmd_*.c)
SHARED_SRC := $(filter-out $(DAEMON_MAIN) $(CTL_SRC),$(wildcard user/*.c))
obj = $(patsubst user/%.c,$(B)/%.o,$(1))
SHARED_OBJ := $(call obj,$(SHARED_SRC))

# clang -target bpf does not look there for asm/. Expanded when it is used: $(CC) may be installed by then only
UAPI = -I/usr/include/$(shell $(CC) -print-multiarch)
BPF_SRC := $(wildcard bpf/*.bpf.c)
SKELS := $(patsubst bpf/%.bpf.c,$(B)/%.skel.h,$(BPF_SRC))

all: $(B)/ipsecd $(B)/ipsecctl ## build ipsecd and ipsecctl

$(B) $(B)/unit $(B)/fuzz:
	$(Q)mkdir -p $@

$(B)/%.bpf.o: bpf/%.bpf.c $(wildcard bpf/*.h include/*.h) | $(B)
	$(call msg,BPF,$<)
	$(Q)$(CLANG) -g -O2 -Wall -Wextra -Werror -Wno-unused-parameter -Wno-missing-declarations -mcpu=v3 -target bpf \
		-D__bpf__ -Ibpf -Iinclude $(UAPI) -c $< -o $@
	$(Q)llvm-strip -g $@ 2>/dev/null || true

$(B)/%.skel.h: $(B)/%.bpf.o
	$(call msg,SKEL,$@)
	$(Q)$(BPFTOOL) gen skeleton $< name $*_bpf > $@

$(B)/%.o: user/%.c | $(B)
	$(call msg,CC,$<)
	$(Q)$(CC) $(CFLAGS_ALL) -MMD -MP -c $< -o $@
# only load.c includes skeletons
$(B)/load.o: $(SKELS)

$(B)/ipsecd: $(call obj,$(DAEMON_MAIN)) $(SHARED_OBJ)
	$(call msg,LD,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LIBS)

$(B)/ipsecctl: $(call obj,$(CTL_SRC)) $(SHARED_OBJ)
	$(call msg,LD,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LIBS)

# --- unit tests: tests/unit/<module>_test.c, one binary each -------------------
UNIT_SRC := $(wildcard tests/unit/*_test.c)
UNIT_BIN := $(patsubst tests/unit/%.c,$(B)/unit/%,$(UNIT_SRC))
# functions that a test stands in for: its line "wraps: a b c"
comma := ,
wraps = $(addprefix -Wl$(comma)--wrap=,$(shell sed -n 's/^.*\* wraps: //p' $<))
$(B)/unit/%: tests/unit/%.c $(SHARED_OBJ) $(wildcard tests/unit/*.h) | $(B)/unit
	$(call msg,CC,$<)
	$(Q)$(CC) $(CFLAGS_ALL) -Wno-missing-prototypes $(LDFLAGS_ALL) -Itests/unit $(wraps) -o $@ $< $(SHARED_OBJ) $(LIBS) -lcmocka

# what tests/unit/test_*.py talk to
UNIT_TOOLS := $(B)/unit/esp_driver
check: $(UNIT_BIN) $(UNIT_TOOLS) ## unit tests only (no root needed)
	@tests/unit/run $(B)/unit $(UNIT_BIN)

asan: ## unit tests under AddressSanitizer and UBSan
	@$(MAKE) --no-print-directory B=$(B)/asan CFLAGS="-O1 -g -fno-omit-frame-pointer" \
		HARDEN="-fPIE" SAN="-fsanitize=address,undefined -fno-sanitize-recover=undefined" check

-include $(wildcard mk/*.mk)

deps: ## install every Debian package espwire needs (as root)
	@mk/install-deps.sh

clean: ## remove build/
	rm -rf $(B)

help: ## this list
	@grep -hE '^[a-z][a-z-]*:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

-include $(wildcard $(B)/*.d)
.PHONY: all check asan deps clean help
.SECONDARY:
