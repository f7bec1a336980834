# SPDX-License-Identifier: GPL-2.0-or-later
# `make lint`: what a machine can see. Formatting is the kernel's, by .clang-format.
LINT_C := $(wildcard user/*.c user/*.h include/*.h bpf/*.c bpf/*.h ike/*.c ike/*.h)
LINT_SH := $(wildcard bench/*.sh) bench/peers/secgw-build $(wildcard examples/*/*.sh) tests/unit/run mk/install-deps.sh ike/source

# Sparse judges arithmetic on fields in network order; assignments it cannot: glibc's htonl() is not annotated.
lint: $(SKELS) ## static checks: licence lines, shellcheck, sparse, compiler analysis
	$(call msg,LINT,SPDX)
	@! grep -L 'SPDX-License-Identifier' $(LINT_C) $(LINT_SH) | grep . || { echo "no SPDX line in the files above" >&2; false; }
	$(call msg,LINT,leftovers)
	@! grep -nE '\b(TODO|FIXME|XXX|HACK)\b' $(LINT_C) || false
	$(call msg,LINT,shellcheck)
	@command -v shellcheck >/dev/null || { echo "shellcheck is missing: make deps" >&2; false; }
	@shellcheck -e SC1091 -S warning $(LINT_SH)
	$(call msg,LINT,sparse)
	@command -v sparse >/dev/null || { echo "sparse is missing: make deps" >&2; false; }
	@for f in $(SHARED_SRC); do \
		sparse -Wno-decl -Wno-declaration-after-statement -D__x86_64__ $(CPPFLAGS_ALL) $$f 2>&1 | \
			grep 'restricted __be.* degrades' && exit 1; done; true

.PHONY: lint
