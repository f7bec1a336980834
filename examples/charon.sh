# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
# charon.sh, sourced by the examples: Debian's charon in a network namespace, beside ipsecd of instance $P-NAME.
#   start_charon NAME DIR UPLINKS   its files go to DIR/charon-NAME; the pid to DIR/charon-NAME.pid
# Its plugin directory is compiled in. In a mount namespace of its own it finds Debian's plugins there, and ours
# from the build directory; where `make install-ike` was run, none of that is needed.
SWAN_PLUGINS=/usr/lib/ipsec/plugins
SWAN_LOAD="kernel-ipsecd random nonce openssl sha1 sha2 hmac kdf gcm aes pem pkcs1 pkcs8 x509 pubkey revocation constraints
	kernel-netlink socket-default vici updown"

need_charon() { # says what is missing
	[ -e "$BIN/ike/libstrongswan-kernel-ipsecd.so" ] || { echo "strongSwan's plugin is not built: make ike" >&2; return 1; }
	command -v charon-systemd swanctl pki > /dev/null || { echo "strongSwan is missing: make deps" >&2; return 1; }
}

start_charon() {
	local dir=$2/charon-$1 plugin
	mkdir -p "$dir/plugins"
	for plugin in $SWAN_LOAD; do
		cp "$SWAN_PLUGINS/libstrongswan-$plugin.so" "$dir/plugins" 2>/dev/null || true # some are part of others
	done
	cp "$BIN/ike/libstrongswan-kernel-ipsecd.so" "$dir/plugins"
	cat > "$dir/strongswan.conf" <<-END
		charon-systemd {
			load = $(echo $SWAN_LOAD)
			install_routes = no
			interfaces_use = $3
			retransmit_timeout = 1.0
			retransmit_base = 1.3
			filelog {
				stderr { default = 1 }
			}
			plugins {
				vici { socket = unix://$dir/vici }
				kernel-ipsecd { socket = /run/ipsec/$P-$1/charon.ipsecd }
			}
		}
	END
	STRONGSWAN_CONF=$dir/strongswan.conf nsenter --net="/run/netns/$P-$1" -- unshare -m --propagation private \
		sh -c "mount --bind '$dir/plugins' $SWAN_PLUGINS && exec charon-systemd" < /dev/null >> "$dir/log" 2>&1 &
	echo $! > "$2/charon-$1.pid"
}
