# SPDX-License-Identifier: GPL-2.0-or-later
sbindir ?= $(prefix)/sbin
datadir ?= $(prefix)/share
unitdir ?= $(if $(filter /usr,$(prefix)),/lib/systemd,/etc/systemd)

install: all ## programs, units, manual, completion under prefix=/usr/local (root)
	install -d -m 755 $(addprefix $(DESTDIR),$(sbindir) $(datadir)/man/man5 $(datadir)/man/man8 \
		$(datadir)/bash-completion/completions $(unitdir)/system $(unitdir)/network $(sysconfdir)/systemd/networkd.conf.d)
	install -d -m 700 $(DESTDIR)$(sysconfdir)/ipsec
	install -m 755 $(B)/ipsecd $(B)/ipsecctl $(DESTDIR)$(sbindir)
	sed 's,/usr/local/sbin,$(sbindir),' systemd/ipsecd@.service > $(DESTDIR)$(unitdir)/system/ipsecd@.service
	install -m 644 systemd/networkd.conf.d/10-espwire.conf $(DESTDIR)$(sysconfdir)/systemd/networkd.conf.d
	install -m 644 systemd/network/10-espwire.network $(DESTDIR)$(unitdir)/network
	for n in 5 8; do for m in docs/man/*.$$n; do \
		[ ! -e "$$m" ] || install -m 644 "$$m" $(DESTDIR)$(datadir)/man/man$$n; done; done
	$(B)/ipsecctl completion bash > $(DESTDIR)$(datadir)/bash-completion/completions/ipsecctl

.PHONY: install
