#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# install-deps.sh: what packages.txt names, as root. strongSwan is there for its programs: where it was not installed
# before, its service is neither started nor enabled by this.
set -eu
had=$(dpkg-query -W -f='${db:Status-Status}' charon-systemd 2>/dev/null || true)
policy=/usr/sbin/policy-rc.d
if [ "$had" != installed ] && [ ! -e $policy ]; then
	printf '#!/bin/sh\nexit 101\n' >$policy
	chmod 755 $policy
	trap 'rm -f $policy' EXIT
fi
xargs -a packages.txt env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends
if [ "$had" != installed ] && command -v systemctl >/dev/null; then
	systemctl --root=/ --quiet disable strongswan.service 2>/dev/null || true
fi
