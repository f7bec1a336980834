#compdef ipsecctl
# SPDX-License-Identifier: GPL-2.0-or-later
# made by `ipsecctl completion zsh`; do not edit
autoload -Uz bashcompinit && bashcompinit
_ipsecctl_links() { ipsecctl show --json 2>/dev/null | grep -o '"name":"[^"]*"' | cut -d'"' -f4; }
_ipsecctl() {
	local cur=${COMP_WORDS[COMP_CWORD]} verb='' sub='' i w
	for ((i = 1; i < COMP_CWORD; i++)); do
		w=${COMP_WORDS[i]}
		case $w in -i|-n|--instance|--netns|--socket) ((i++)) ;; -*) ;;
		*) if [ -z "$verb" ]; then verb=$w; elif [ -z "$sub" ]; then sub=$w; fi ;; esac
	done
	local opts=' --json --instance --netns --verbose --socket --help' words='' kind=none
	case "$verb $sub" in
	' ') words=' show link sa up down rekey status path apply confirm rollback check diff drops why mtu maps monitor metrics perf static release doctor report version help' ;;
	'show config') opts+=' --all' kind=none ;;
	'link list') opts+='' kind=links ;;
	'link add') opts+=' --save' kind=keys ;;
	'link set') opts+=' --save' kind=keys ;;
	'link del') opts+=' --save' kind=links ;;
	'link up') opts+='' kind=links ;;
	'link down') opts+='' kind=links ;;
	'sa list') opts+='' kind=links ;;
	'sa add') opts+='' kind=links ;;
	'sa del') opts+='' kind=links ;;
	'sa rekey') opts+=' --now --save' kind=links ;;
	'path list') opts+='' kind=links ;;
	'static init') opts+=' --state' kind=files ;;
	'static pair') opts+=' --output --alg --mode' kind=none ;;
	'show '*) words=' config' opts+=' --watch --count' kind=links ;;
	'link ') words=' list add set del up down' opts+='' kind=none ;;
	'sa ') words=' list add del rekey' opts+='' kind=none ;;
	'up '*) words='' opts+='' kind=links ;;
	'down '*) words='' opts+='' kind=links ;;
	'rekey '*) words='' opts+='' kind=links ;;
	'status '*) words='' opts+='' kind=links ;;
	'path ') words=' list' opts+='' kind=none ;;
	'apply '*) words='' opts+=' --confirm' kind=files ;;
	'confirm '*) words='' opts+='' kind=none ;;
	'rollback '*) words='' opts+='' kind=none ;;
	'check '*) words='' opts+='' kind=files ;;
	'diff '*) words='' opts+='' kind=files ;;
	'drops '*) words='' opts+=' --watch --count' kind=links ;;
	'why '*) words='' opts+=' --from --size' kind=none ;;
	'mtu '*) words='' opts+='' kind=links ;;
	'maps '*) words='' opts+='' kind=none ;;
	'monitor '*) words='' opts+='' kind=none ;;
	'metrics '*) words='' opts+='' kind=none ;;
	'perf '*) words='' opts+='' kind=none ;;
	'static ') words=' init pair' opts+='' kind=none ;;
	'release '*) words='' opts+=' --yes' kind=none ;;
	'doctor '*) words='' opts+='' kind=none ;;
	'report '*) words='' opts+='' kind=none ;;
	'version '*) words='' opts+=' --probe' kind=none ;;
	'help '*) words='' opts+='' kind=none ;;
	esac
	case $cur in -*) words=$opts kind=none ;; esac
	case $kind in
	links) words+=" $(_ipsecctl_links)" ;;
	keys) words+=" $(_ipsecctl_links) peer address address6 link-local path inner protect route metric mtu mss-clamp netns liveness keepalive sa ike ike-id ike-peer-id ike-psk ike-cert ike-key ike-ca ike-esp ike-rekey ike-start ike-idle ike-vips ike-pool input backend offload cores tfc cover dscp ecn ttl df state" ;;
	files) COMPREPLY=($(compgen -f -- "$cur")); return ;;
	esac
	COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -F _ipsecctl ipsecctl
