# SPDX-License-Identifier: GPL-2.0-or-later
# `make coverage`: which lines of the inbound path the tests reach (tests/coverage/cover). Unit tests with the
# fuzz corpora; as root also namespace tests, COVER_NET chooses them and none leaves them out.
COVER_NET ?= test_byte_exact_old_suites or test_two_hosts
COVER_DIR := $(B)/cov
COVER_MAKE = $(MAKE) --no-print-directory B=$(COVER_DIR) CFLAGS="-O0 -g" HARDEN="-fPIE" SAN="--coverage -fprofile-update=atomic"

coverage: ## lines of the inbound path that tests reach; fails below 95 % (COVER_NET= leaves the namespaces out)
	@rm -f $(COVER_DIR)/*.gcda
	@$(COVER_MAKE) check
	@[ "$$(id -u)" != 0 ] || [ -z "$(COVER_NET)" ] || { $(COVER_MAKE) all net-tools && \
		ESPWIRE_COVERAGE=1 B=$(COVER_DIR) NET_ARGS="-k '$(COVER_NET)'" tests/run net; }
	@B=$(COVER_DIR) tests/coverage/cover

.PHONY: coverage
