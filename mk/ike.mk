# SPDX-License-Identifier: GPL-2.0-or-later
# `make ike`: strongSwan's plugin, built from the headers of Debian's source of the very version that runs here: 5.9.8 of
# Debian 12, 6.0.1 of Debian 13. Where those cannot be had, or another version is installed, it is not built, and
# build/ike/why says so. SWAN_VERSION=6.0.1 SWAN_SRC=DIR builds it for another machine, or from a source that is there.
SWAN_VERSION ?= $(or $(shell dpkg-query -W -f='$${Version}' libstrongswan 2>/dev/null | sed 's/-.*//'),5.9.8)
SWAN_SRC ?= $(B)/ike/strongswan-$(SWAN_VERSION)
IKE_PLUGIN := $(B)/ike/libstrongswan-kernel-ipsecd.so
IKE_PLUGIN_DIR ?= /usr/lib/ipsec/plugins
IKE_FLAGS = -std=gnu11 $(filter-out -Wstrict-prototypes -Wmissing-prototypes -Wshadow,$(WARN)) -Wno-sign-compare \
	-Wno-missing-field-initializers $(CFLAGS) $(SAN) -fPIC -fvisibility=hidden -fstack-protector-strong -D_GNU_SOURCE
# 5.9.8 is 50908
SWAN_NUM := $(shell echo $(SWAN_VERSION) | awk -F. '{ print $$1 * 10000 + $$2 * 100 + $$3 }')
IKE_SRC := ike/kernel_ipsecd.c ike/door.c user/ike_wire.c

ike: $(IKE_PLUGIN) ## strongSwan's plugin (needs Debian's source package, which it fetches)

$(B)/ike/.source: ike/source | $(B)
	@mkdir -p $(@D)
	@ike/source $(SWAN_VERSION) $(SWAN_SRC) $(B)/ike
	@touch $@

# a version that changed, or a source that is there now, is noticed the next time
$(IKE_PLUGIN): $(IKE_SRC) $(wildcard ike/*.h) user/ike_wire.h $(B)/ike/.source
	@rm -f $@; if [ -e $(B)/ike/why ]; then \
		echo "SKIPPED: strongSwan's plugin is not built: $$(cat $(B)/ike/why)" >&2; rm -f $(B)/ike/.source; else \
		printf '  %-8s %s\n' IKE $@ && \
		$(CC) $(IKE_FLAGS) -shared -DVERSION='"$(SWAN_VERSION)"' -DSWAN_NUM=$(SWAN_NUM) -include ike/config.h -isystem $(SWAN_SRC)/src/libstrongswan \
			-isystem $(SWAN_SRC)/src/libcharon -Iuser -Iike -Wl,-z,relro,-z,now -o $@ $(IKE_SRC); fi

install-ike: ike ## the plugin for strongSwan, and its configuration (root)
	[ -e $(IKE_PLUGIN) ]
	install -d -m 755 $(DESTDIR)$(IKE_PLUGIN_DIR) $(DESTDIR)/etc/strongswan.d/charon
	install -m 644 $(IKE_PLUGIN) $(DESTDIR)$(IKE_PLUGIN_DIR)
	install -m 644 ike/kernel-ipsecd.conf $(DESTDIR)/etc/strongswan.d/charon

.PHONY: ike install-ike
