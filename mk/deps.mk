# SPDX-License-Identifier: GPL-2.0-or-later
# What is missing is installed before anything is built; when all is there, that costs one stamp.
DEPS_STAMP := $(B)/.deps

$(B) $(B)/unit $(B)/fuzz $(B)/bpf $(B)/net: | $(DEPS_STAMP)

$(DEPS_STAMP): packages.txt
	@mkdir -p $(@D)
	@command -v dpkg-query >/dev/null || exit 0; missing=$$(for p in $$(cat packages.txt); do \
		dpkg-query -W -f='$${db:Status-Status}\n' $$p 2>/dev/null | grep -qx installed || echo $$p; done); \
	[ -z "$$missing" ] && exit 0; echo "missing:" $$missing; \
	[ "$$(id -u)" = 0 ] || { echo "run 'make deps' as root first" >&2; exit 1; }; \
	apt-get -q update && $(MAKE) --no-print-directory deps
	@touch $@
