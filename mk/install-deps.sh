#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# install-deps.sh: what packages.txt names, as root. strongSwan, FRR and BIRD are there for their programs: where one was not
# installed before, its service is neither started nor enabled by this.
set -eu
new= # package:service of those that come now
for s in charon-systemd:strongswan frr:frr bird2:bird; do
	have=$(dpkg-query -W -f='${db:Status-Status}' "${s%:*}" 2>/dev/null || true)
	[ "$have" = installed ] || new="$new $s"
done
policy=/usr/sbin/policy-rc.d
exists() { [ -e "$1" ] || [ -L "$1" ]; }
put_back() {
	rm -f $policy
	! exists $policy.espwire || mv $policy.espwire $policy
}
ours='espwire: while make deps runs'
! grep -qs "$ours" $policy || put_back # a run before this one was killed
if [ -n "$new" ]; then
	! exists $policy || mv $policy $policy.espwire
	trap put_back EXIT
	trap 'exit 1' HUP INT TERM
	# no to those services, and to all others what was said before
	{
		printf '#!/bin/sh\n# %s\n' "$ours"
		for s in $new; do printf 'case " $* " in *" %s "*|*" %s.service "*) exit 101;; esac\n' "${s#*:}" "${s#*:}"; done
		printf '[ ! -x %s ] || exec %s "$@"\n' $policy.espwire $policy.espwire
	} >$policy
	chmod 755 $policy
fi
xargs -a packages.txt env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends
if command -v systemctl >/dev/null; then
	for s in $new; do systemctl --root=/ --quiet disable "${s#*:}.service" 2>/dev/null || true; done
fi
