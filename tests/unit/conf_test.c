/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * conf_test - the grammar by tables: what is taken, what is refused with which sentence on which
 * line, limits at their edges, and print = parse over random configurations (seed printed).
 */
#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include "conf.h"
#include "ipsec_shared.h"

#define MIN_LINK "[link ipsec1]\npeer = east\npath = any\n"

/* struct said - what was printed to errs */
struct said {
	char *text;
	size_t len;
	FILE *f;
};

static void said_open(struct said *s)
{
	s->text = NULL;
	s->f = open_memstream(&s->text, &s->len);
	assert_non_null(s->f);
}

static int parse(struct conf *c, const char *text, struct said *s)
{
	int n;

	said_open(s);
	n = conf_parse_string(c, text, "f", s->f);
	fclose(s->f);
	return n;
}

static unsigned int lines(const char *s)
{
	unsigned int n = 0;

	for (; *s; s++)
		n += *s == '\n';
	return n;
}

/* The text must be accepted. */
static void good(struct conf *c, const char *text)
{
	struct said s;
	int n = parse(c, text, &s);

	if (n)
		print_error("%s\n--- refused:\n%s", text, s.text);
	assert_int_equal(n, 0);
	assert_string_equal(s.text, "");
	free(s.text);
}

/* The text must be refused with exactly this one complaint. */
static void refused(const char *text, const char *complaint)
{
	struct conf c;
	struct said s;
	int n = parse(&c, text, &s);
	char want[600];

	snprintf(want, sizeof want, "%s\n", complaint);
	if (n != 1 || strcmp(s.text, want))
		print_error("%s\n--- said:\n%s", text, s.text);
	assert_int_equal(n, 1);
	assert_string_equal(s.text, want);
	free(s.text);
	conf_free(&c);
}

static void assert_addr(const struct in6_addr *a, const char *want)
{
	char buf[INET6_ADDRSTRLEN];

	assert_string_equal(addr_str(a, buf), want);
}

static void assert_prefix(const struct prefix *p, const char *want)
{
	char buf[INET6_ADDRSTRLEN + 4];

	assert_string_equal(prefix_str(p, buf), want);
}

/* --- what is taken ------------------------------------------------------------------ */

static void test_defaults(void **state)
{
	struct conf c;

	good(&c, "");
	assert_string_equal(c.instance, "");
	assert_int_equal(c.workers, 0);
	assert_string_equal(c.crypto, "auto");
	assert_int_equal(c.max_links, 4096);
	assert_int_equal(c.gso_queue, 1000);
	assert_int_equal(c.xsk_queue, 4096);
	assert_true(c.devices_auto);
	assert_false(c.esp_shared);
	assert_int_equal(c.n_links, 0);
	conf_free(&c);

	good(&c, MIN_LINK);
	assert_int_equal(c.n_links, 1);
	assert_true(c.links[0].paths[0].any);
	assert_int_equal(c.links[0].paths[0].port, 4500);
	assert_int_equal(c.links[0].metric, 10);
	assert_int_equal(c.links[0].mtu, 0);
	assert_int_equal(c.links[0].liveness, LIVE_PROBE);
	assert_int_equal(c.links[0].live_ms, 500);
	assert_int_equal(c.links[0].live_count, 3);
	assert_int_equal(c.links[0].keepalive_ms, 20000); /* RFC 3948 4 */
	assert_false(c.links[0].down);
	assert_int_equal(c.links[0].src_line, 1);
	assert_string_equal(c.links[0].src_file, "f");
	conf_free(&c);
}

static const char sketch[] =
	"[ipsecd]\n"
	"instance = lab_1\nworkers = 2\ncrypto = openssl\nmax-links = 8Ki\ngso-queue = 2k\nxsk-queue = 2Ki\naudit = yes\n"
	"[underlay]\n"
	"devices   = eth1 ppp*                  # or: auto\n"
	"lan = eth0, br*\n"
	"shortcut = eth0 swp*\n"
	"esp = shared ; kernel IPsec beside us\n"
	"input = socket\n"
	"\n"
	"[link ipsec:1]\n"
	"peer      = east                       # name first, everywhere\n"
	"address   = 10.9.0.1 peer 10.9.0.2     # own, far end\n"
	"address6  = fd09::1 peer fd09::2\n"
	"path      = 198.51.100.7 local 192.0.2.1 encap udp port 4501 fwmark 0x51 table 51\n"
	"path      = 203.0.113.7 fwmark 82 table main weight 3\n"
	"path      = east.example.org encap udp\n"
	"path      = 2001:db8::7 local 2001:db8::1\n"
	"inner     = 10.2.0.0/16, fd02::/48     # sources\n"
	"inner     = 10.3.0.0/16 10.4.0.1\n"
	"protect   = 0.0.0.0/0,::/0\n"
	"route     = 10.2.0.0/16\n"
	"metric    = 4294967293\n"
	"mtu       = 1400\n"
	"netns     = blue\n"
	"liveness  = ping 1s x 5\n"
	"sa        = file:/etc/ipsec/east.sa\n"
	"keepalive = 1m\ninput = xdp\nbackend = auto\noffload = crypto eth1.7\ncores = 4\ntfc = 900\ncover = 25/s\nmss-clamp = 1360\ndscp = 46\necn = off\nttl = 77\ndf = clear\nstate = down\n";

static void check_sketch_main(const struct conf *c)
{
	assert_string_equal(c->instance, "lab_1");
	assert_int_equal(c->workers, 2);
	assert_string_equal(c->crypto, "openssl");
	assert_int_equal(c->max_links, 8192);
	assert_int_equal(c->gso_queue, 2000);
	assert_int_equal(c->xsk_queue, 2048);
	assert_true(c->audit);
	assert_false(c->devices_auto);
	assert_int_equal(c->n_devices, 2);
	assert_string_equal(c->devices[0], "eth1");
	assert_string_equal(c->devices[1], "ppp*");
	assert_int_equal(c->n_lan, 2);
	assert_string_equal(c->lan[1], "br*");
	assert_int_equal(c->n_shortcut, 2);
	assert_string_equal(c->shortcut[1], "swp*");
	assert_true(c->esp_shared);
	assert_int_equal(c->input, INPUT_SOCKET);
	assert_int_equal(c->n_links, 1);
}

static void check_sketch_paths(const struct link_conf *l)
{
	assert_int_equal(l->n_paths, 4);
	assert_addr(&l->paths[0].remote, "198.51.100.7");
	assert_true(l->paths[0].has_local);
	assert_addr(&l->paths[0].local, "192.0.2.1");
	assert_int_equal(l->paths[0].encap, ENCAP_UDP);
	assert_int_equal(l->paths[0].port, 4501);
	assert_int_equal(l->paths[0].fwmark, 0x51);
	assert_int_equal(l->paths[0].table, 51);
	assert_int_equal(l->paths[0].weight, 0);
	assert_int_equal(l->paths[1].encap, ENCAP_ESP);
	assert_int_equal(l->paths[1].fwmark, 82);
	assert_int_equal(l->paths[1].table, 254);
	assert_int_equal(l->paths[1].weight, 3);
	assert_string_equal(l->paths[2].host, "east.example.org");
	assert_int_equal(l->paths[2].port, 4500);
	assert_addr(&l->paths[3].remote, "2001:db8::7");
}

static void test_sketch(void **state)
{
	const struct link_conf *l;
	struct conf c;

	good(&c, sketch);
	check_sketch_main(&c);
	l = &c.links[0];
	check_sketch_paths(l);
	assert_string_equal(l->name, "ipsec1");
	assert_int_equal(l->number, 1);
	assert_string_equal(l->peer, "east");
	assert_addr(&l->address.own, "10.9.0.1");
	assert_addr(&l->address.far, "10.9.0.2");
	assert_addr(&l->address6.far, "fd09::2");
	assert_int_equal(l->inner.n, 4);
	assert_prefix(&l->inner.p[1], "fd02::/48");
	assert_prefix(&l->inner.p[3], "10.4.0.1/32");
	assert_int_equal(l->protect.n, 2);
	assert_prefix(&l->protect.p[1], "::/0");
	assert_int_equal(l->routes.n, 1);
	assert_int_equal(l->metric, 4294967293u);
	assert_int_equal(l->mtu, 1400);
	assert_string_equal(l->netns, "blue");
	assert_int_equal(l->liveness, LIVE_PING);
	assert_int_equal(l->live_ms, 1000);
	assert_int_equal(l->live_count, 5);
	assert_string_equal(l->sa_file, "/etc/ipsec/east.sa");
	assert_string_equal(l->ike, "");
	assert_int_equal(l->input, INPUT_XDP);
	assert_int_equal(l->backend, BACKEND_AUTO);
	assert_int_equal(l->offload, OFFLOAD_CRYPTO);
	assert_string_equal(l->offload_dev, "eth1.7");
	assert_int_equal(l->cores, 4);
	assert_int_equal(l->tfc, 900);
	assert_int_equal(l->cover, 25);
	assert_true(l->outer.dscp_fixed && l->outer.dscp == 46 && l->outer.ecn_off);
	assert_true(!l->outer.ttl_copy && l->outer.ttl == 77 && l->outer.df == DF_CLEAR);
	assert_int_equal(l->keepalive_ms, 60000);
	assert_int_equal(l->mss_clamp, 1360);
	assert_true(l->down);
	conf_free(&c);
}

/* Spellings of one thing: both texts must load to equal structs. */
static void test_spellings(void **state)
{
	static const struct {
		const char *a, *b;
	} rows[] = {
		{"liveness = ping", "liveness = ping 500ms x 3"},
		{"liveness = 2m", "liveness = 120s x 3"},
		{"liveness = 1000ms x 3", "  liveness=1s\tx 3   # slow"},
		{"ike = east", "sa = ike:east"},
		{"inner = any", ""},
		{"mtu = auto", "mtu=auto ; default"},
		{"cores = 1", ""},
		{"offload = off", ""},
		{"backend = auto\noffload = auto\t eth1", "backend = auto\noffload=auto eth1"},
		{"tfc = off", ""},
		{"cover = off", ""},
		{"dscp = copy", ""},
		{"dscp = 0x2e", "dscp = 46"},
		{"ecn = copy", ""},
		{"ttl = auto", ""},
		{"df = auto", ""},
		{"keepalive = 20s", ""},
		{"keepalive = 90s", "keepalive = 90000ms"},
		{"keepalive = off", "keepalive = off"},
		{"mss-clamp = off", ""},
		{"metric = 64k", "metric = 64000"},
		{"route = 10.1.0.0/16, 10.2.0.0/16", "route = 10.1.0.0/16\nroute = 10.2.0.0/16"},
		{"path = 1.2.3.4 encap udp port 4500", "path = 1.2.3.4 encap udp"},
		{"path = 1.2.3.4 encap esp", "path = 1.2.3.4"},
		{"path = 1.2.3.4 table 254 fwmark 16", "path = 1.2.3.4 fwmark 0x10 table main"},
		{"protect = fd00:0::/32", "protect = fd00::/32"},
	};
	char ta[400], tb[400];
	struct conf a, b;

	for (unsigned int i = 0; i < ARRAY_SIZE(rows); i++) {
		snprintf(ta, sizeof ta, MIN_LINK "address = 1.0.0.1 peer 1.0.0.2\n%s\n", rows[i].a);
		snprintf(tb, sizeof tb,
			 "\xef\xbb\xbf" MIN_LINK "address = 1.0.0.1 peer 1.0.0.2\r\n%s", rows[i].b);
		good(&a, ta);
		good(&b, tb);
		assert_true(conf_equal(&a, &b));
		conf_free(&a);
		conf_free(&b);
	}
}

/* --- what is refused ------------------------------------------------------------------ */

/* One bad line behind a good link: line 4. */
static void test_refused_link_lines(void **state)
{
	static const struct {
		const char *line, *says;
	} rows[] = {
		{"protct = 10.2.0.0/16", "unknown key 'protct': did you mean 'protect'?"},
		{"adress6 = a", "unknown key 'adress6': did you mean 'address6'?"},
		{"Metric = 1", "unknown key 'Metric': did you mean 'metric'?"},
		{"devices = eth0", "unknown key 'devices': it belongs into [underlay]"},
		{"peer = west", "'peer' is given twice, first on line 2"},
		{"junk", "write KEY = VALUE"},
		{"= junk", "write KEY = VALUE"},
		{"address6 fd09::1 peer fd09::2", "write KEY = VALUE"},
		{"mtu =", "mtu: a value is missing"},
		{"mtu = # nothing", "mtu: a value is missing"},
		{"mtu = 1279", "mtu: '1279' is neither 'auto' nor a number from 1280 to 65535"},
		{"mtu = 65536", "mtu: '65536' is neither 'auto' nor a number from 1280 to 65535"},
		{"mtu = 1500x", "mtu: '1500x' is neither 'auto' nor a number from 1280 to 65535"},
		{"dscp = ef", "dscp: 'ef' is neither 'copy' nor a number from 0 to 63"},
		{"dscp = 64", "dscp: '64' is neither 'copy' nor a number from 0 to 63"},
		{"ttl = 0", "ttl: '0' is neither 'auto' nor 'copy' nor a number from 1 to 255"},
		{"ttl = 256", "ttl: '256' is neither 'auto' nor 'copy' nor a number from 1 to 255"},
		{"keepalive = 20", "keepalive: '20' is neither 'off' nor a time from 1s to 60m, as 20s"},
		{"keepalive = 999ms", "keepalive: '999ms' is neither 'off' nor a time from 1s to 60m, as 20s"},
		{"keepalive = 61m", "keepalive: '61m' is neither 'off' nor a time from 1s to 60m, as 20s"},
		{"cores = 0", "cores: '0' is neither 'all' nor a number from 1 to 64"},
		{"cores = 65", "cores: '65' is neither 'all' nor a number from 1 to 64"},
		{"cores = both", "cores: 'both' is neither 'all' nor a number from 1 to 64"},
		{"offload = hw", "offload: 'hw' is none of: off, crypto, packet, auto"},
		{"offload = off eth1", "offload: write off, or crypto, packet or auto, and behind these at most the name of an underlay device, as crypto eth1"},
		{"offload = crypto eth1 eth2", "offload: write off, or crypto, packet or auto, and behind these at most the name of an underlay device, as crypto eth1"},
		{"offload = auto sixteen-letters!", "offload: write off, or crypto, packet or auto, and behind these at most the name of an underlay device, as crypto eth1"},
		{"tfc = on", "tfc: 'on' is neither 'off' nor 'mtu' nor a length from 1 to 65535"},
		{"tfc = 0", "tfc: '0' is neither 'off' nor 'mtu' nor a length from 1 to 65535"},
		{"tfc = 65536", "tfc: '65536' is neither 'off' nor 'mtu' nor a length from 1 to 65535"},
		{"cover = 10", "cover: '10' is neither 'off' nor a rate from 1/s to 1000/s, as 10/s"},
		{"cover = 0/s", "cover: '0/s' is neither 'off' nor a rate from 1/s to 1000/s, as 10/s"},
		{"cover = 1001/s", "cover: '1001/s' is neither 'off' nor a rate from 1/s to 1000/s, as 10/s"},
		{"mss-clamp = on", "mss-clamp: 'on' is neither 'off' nor 'yes' nor a segment size from 536 to 65495"},
		{"mss-clamp = 535", "mss-clamp: '535' is neither 'off' nor 'yes' nor a segment size from 536 to 65495"},
		{"metric = 0", "metric: '0' is no number from 1 to 4294967293"},
		{"metric = 4294967294", "metric: '4294967294' is no number from 1 to 4294967293"},
		{"metric = -1", "metric: '-1' is no number from 1 to 4294967293"},
		{"metric = 99999999999999999999",
		 "metric: '99999999999999999999' is no number from 1 to 4294967293"},
		{"metric = 9999999Mi", "metric: '9999999Mi' is no number from 1 to 4294967293"},
		{"address = 10.9.0.1 peer", "address: write OWN peer FAR, as 10.9.0.1 peer 10.9.0.2; or OWN alone where the peer's comes from "
					    "ike-pool"},
		{"address = 10.9.0.1 to 10.9.0.2",
		 "address: write OWN peer FAR, as 10.9.0.1 peer 10.9.0.2; or OWN alone where the peer's comes from ike-pool"},
		{"address = 10.9.0.1 peer 10.9.0.2 x",
		 "address: write OWN peer FAR, as 10.9.0.1 peer 10.9.0.2; or OWN alone where the peer's comes from ike-pool"},
		{"address = 10.9.0.1 peer 10.9.0.1", "address: own and far address must differ"},
		{"address = fd09::1 peer fd09::2",
		 "address: 'fd09::1' is no usable IPv4 address; as in 10.9.0.1 peer 10.9.0.2"},
		{"address = 10.9.0.1 peer 224.0.0.5",
		 "address: '224.0.0.5' is no usable IPv4 address; as in 10.9.0.1 peer 10.9.0.2"},
		{"address6 = fe80::1 peer fe80::2",
		 "address6: 'fe80::1' is no usable IPv6 address; as in fd09::1 peer fd09::2"},
		{"address6 = fd09::1 peer 10.9.0.2",
		 "address6: '10.9.0.2' is no usable IPv6 address; as in fd09::1 peer fd09::2"},
		{"path = any", "path: the same path is listed twice"},
		{"path = 10.9.0.300", "path: '10.9.0.300' is no address, host name or 'any'"},
		{"path = -x.org", "path: '-x.org' is no address, host name or 'any'"},
		{"path = a..b", "path: 'a..b' is no address, host name or 'any'"},
		{"path = 127.0.0.1", "path: '127.0.0.1' cannot be a peer's outer address"},
		{"path = fe80::1", "path: 'fe80::1' cannot be a peer's outer address"},
		{"path = 0.0.0.0", "path: '0.0.0.0' cannot be a peer's outer address"},
		{"path = 1.2.3.4 encap", "path: 'encap' needs a value"},
		{"path = 1.2.3.4 encap gre", "path: 'gre' is none of: esp, udp"},
		{"path = 1.2.3.4 mark 7",
		 "path: 'mark' is none of: local, encap, port, fwmark, table, weight, from, at"},
		{"path = 1.2.3.4 from 24.0.0.0/8", "path: 'from' and 'at' are for 'any': this path's remote address is given"},
		{"path = any from 24.0.0.1/8", "path: from '24.0.0.1/8' is no prefix, or has host bits set"},
		{"path = any from 24.0.0.0/8,1.0.0.0/8,2.0.0.0/8,3.0.0.0/8,4.0.0.0/8", "path: 'from' takes at most 4 prefixes"},
		{"path = any from ,", "path: 'from' needs a prefix, as 24.0.0.0/8"},
		{"path = any from 24.0.0.0/8 at 25.0.0.1", "path: 'at' is outside of 'from'"},
		{"path = any at 0.0.0.0", "path: '0.0.0.0' cannot be a peer's outer address"},
		{"path = 1.2.3.4 port 4501", "path: 'port' needs 'encap udp'"},
		{"path = 1.2.3.4 encap udp port 0", "path: port '0' is no number from 1 to 65535"},
		{"path = 1.2.3.4 encap udp port 65536",
		 "path: port '65536' is no number from 1 to 65535"},
		{"path = 1.2.3.4 fwmark 0", "path: fwmark '0' is no number from 1 to 0xffffffff"},
		{"path = 1.2.3.4 fwmark 0x100000000",
		 "path: fwmark '0x100000000' is no number from 1 to 0xffffffff"},
		{"path = 1.2.3.4 fwmark 1 fwmark 2", "path: 'fwmark' is given twice"},
		{"path = 1.2.3.4 table blue",
		 "path: table 'blue' is no routing table number (names of rt_tables are not read)"},
		{"path = 1.2.3.4 weight 65536",
		 "path: weight '65536' is no number from 1 to 65535"},
		{"path = 1.2.3.4 local ::1", "path: '::1' is no usable local address"},
		{"path = 1.2.3.4 local fd00::1",
		 "path: remote and local address are of different families"},
		{"route = 10.2/16", "route: '10.2/16' is no prefix: write ADDRESS/LENGTH, as "
				    "10.2.0.0/16 or fd02::/48"},
		{"route = 10.2.0.0/33",
		 "route: '10.2.0.0/33' is no prefix: the length is a number from 0 to 32"},
		{"route = fd00::/129",
		 "route: 'fd00::/129' is no prefix: the length is a number from 0 to 128"},
		{"route = 10.2.0.9/16",
		 "route: '10.2.0.9/16' has bits set behind its length: write 10.2.0.0/16"},
		{"inner = fd02::7/48",
		 "inner: 'fd02::7/48' has bits set behind its length: write fd02::/48"},
		{"route = 10.2.0.0/16, 10.2.0.0/16", "route: '10.2.0.0/16' is listed twice"},
		{"route = ,", "route: at least one prefix is needed, as 10.2.0.0/16"},
		{"protect = any",
		 "protect: 'any' is no prefix: write ADDRESS/LENGTH, as 10.2.0.0/16 or fd02::/48"},
		{"netns = ../x", "netns: '../x' is no name of a network namespace (ip netns list)"},
		{"liveness = 5", "liveness: '5' is no interval from 10ms to 10m; write INTERVAL x "
				 "COUNT, as 500ms x 3"},
		{"liveness = 9ms x 3", "liveness: '9ms' is no interval from 10ms to 10m; write "
				       "INTERVAL x COUNT, as 500ms x 3"},
		{"liveness = off 1s x 3", "liveness: '1s' is no interval from 10ms to 10m; write "
					  "INTERVAL x COUNT, as 500ms x 3"},
		{"liveness = 1s x 0",
		 "liveness: write INTERVAL x COUNT with COUNT from 1 to 255, as 500ms x 3"},
		{"liveness = 1s x 256",
		 "liveness: write INTERVAL x COUNT with COUNT from 1 to 255, as 500ms x 3"},
		{"liveness = 1s 3",
		 "liveness: write INTERVAL x COUNT with COUNT from 1 to 255, as 500ms x 3"},
		{"liveness = 1s x 3 4",
		 "liveness: write INTERVAL x COUNT with COUNT from 1 to 255, as 500ms x 3"},
		{"sa = east.sa",
		 "sa: write file:/ABSOLUTE/PATH of an SA file, or ike:NAME; keys never stand here"},
		{"sa = file:east.sa",
		 "sa: write file:/ABSOLUTE/PATH of an SA file, or ike:NAME; keys never stand here"},
		{"sa = file:/a b", "sa: paths with blanks are not supported: behind a blank stands another file:/PATH"},
		{"ike = a b", "ike: not the name of an IKE connection"},
		{"input = both", "input: 'both' is none of: auto, xdp, socket"},
		{"backend = kernel", "backend: 'kernel' is none of: afxdp, xfrm, auto"},
		{"state = on", "state: 'on' is none of: up, down"},
		{"mtu = 1400\x01", "control character in the line"},
		{"[link ipsec2", "']' is missing"},
		{"[link ipsec2] x", "text behind ']'"},
		{"[link]", "a link needs a name: [link ipsec1]"},
		{"[link east]",
		 "[link east]: a link is called ipsecN or ipsec:N, N from 0 to 65535"},
		{"[link ipsec]",
		 "[link ipsec]: a link is called ipsecN or ipsec:N, N from 0 to 65535"},
		{"[link ipsec01]",
		 "[link ipsec01]: a link is called ipsecN or ipsec:N, N from 0 to 65535"},
		{"[link ipsec65536]",
		 "[link ipsec65536]: a link is called ipsecN or ipsec:N, N from 0 to 65535"},
		{"[link ipsec-1]",
		 "[link ipsec-1]: a link is called ipsecN or ipsec:N, N from 0 to 65535"},
		{"[link ipsec2 x]", "a section is [ipsecd], [underlay] or [link ipsecN]"},
		{"[lnik ipsec2]\npeer = x\nfoo",
		 "unknown section [lnik]: did you mean [link ipsecN]?"},
		{"[undrlay]", "unknown section [undrlay]: did you mean [underlay]?"},
		{"[]", "unknown section; there are [ipsecd], [underlay] and [link ipsecN]"},
		{"[ipsecd]\n[link ipsec2]\npeer = e2\npath = any\n[global]",
		 "unknown section; there are [ipsecd], [underlay] and [link ipsecN]"},
	};
	char text[600], says[600];

	for (unsigned int i = 0; i < ARRAY_SIZE(rows); i++) {
		snprintf(text, sizeof text, MIN_LINK "%s\n", rows[i].line);
		snprintf(says, sizeof says, "f:%d: %s", i == ARRAY_SIZE(rows) - 1 ? 8 : 4,
			 rows[i].says);
		refused(text, says);
	}
}

static void test_refused_main_lines(void **state)
{
	static const struct {
		const char *text, *says;
	} rows[] = {
		{"workers = 2", "f:1: 'workers' stands in no section; begin with [ipsecd], "
				"[underlay] or [link ipsecN]"},
		{"[ipsecd]\nwrokers = 2", "f:2: unknown key 'wrokers': did you mean 'workers'?"},
		{"[ipsecd]\npeer = east", "f:2: unknown key 'peer': it belongs into [link ipsecN]"},
		{"[ipsecd]\nesp = ours", "f:2: unknown key 'esp': it belongs into [underlay]"},
		{"[ipsecd]\nxyzzy = 1", "f:2: unknown key 'xyzzy' in [ipsecd]"},
		{"[ipsecd]\nworkers = 65",
		 "f:2: workers: '65' is neither 'auto' nor a number from 1 to 64"},
		{"[ipsecd]\nworkers = 0",
		 "f:2: workers: '0' is neither 'auto' nor a number from 1 to 64"},
		{"[ipsecd]\nworkers = 2\n[underlay]\n[ipsecd]\nworkers = 3",
		 "f:5: 'workers' is given twice, first at f:2"},
		{"[ipsecd]\nmax-links = 16385",
		 "f:2: max-links: '16385' is no number from 1 to 16384"},
		{"[ipsecd]\ngso-queue = 15",
		 "f:2: gso-queue: '15' is no number from 16 to 1000000"},
		{"[ipsecd]\nxsk-queue = 511",
		 "f:2: xsk-queue: '511' is no number from 512 to 65536"},
		{"[ipsecd]\ncrypto = gnutls",
		 "f:2: crypto: 'gnutls' is none of: auto, ipsec-mb, openssl"},
		{"[ipsecd]\ninstance = a.b",
		 "f:2: instance: 'a.b' is no instance name: letters, digits, _ and -, at most 31"},
		{"[ipsecd]\ninstance =", "f:2: instance: a value is missing"},
		{"[underlay]\ndevices = auto eth0", "f:2: devices: 'auto' beside device names"},
		{"[underlay]\ndevices = eth0\ndevices = auto",
		 "f:3: devices: 'auto' beside device names"},
		{"[underlay]\ndevices = eth0, eth0", "f:2: devices: 'eth0' is listed twice"},
		{"[underlay]\ndevices =# eth0",
		 "f:2: devices: '#' is no device name or pattern, as eth1 or ppp*"},
		{"[underlay]\ndevices = eth0,;x",
		 "f:2: devices: ';x' is no device name or pattern, as eth1 or ppp*"},
		{"[underlay]\ndevices = a/b",
		 "f:2: devices: 'a/b' is no device name or pattern, as eth1 or ppp*"},
		{"[underlay]\ndevices = a234567890123456",
		 "f:2: devices: 'a234567890123456' is no device name or pattern, as eth1 or ppp*"},
		{"[underlay]\nesp = mine", "f:2: esp: 'mine' is none of: ours, shared"},
		{"[link ipsec1]\npath = any",
		 "f:1: link ipsec1: 'peer' is missing: give the far end a name, as peer = east"},
		{"[link ipsec1]\npeer = east",
		 "f:1: link ipsec1: 'path' is missing: where do envelopes go? as path = "
		 "198.51.100.7, or path = any"},
		{"[link ipsec1]\npeer = ipsec7\npath = any",
		 "f:2: peer: a peer cannot be called 'ipsec7': that is what links are called"},
		{"[link ipsec1]\npeer = /etc\npath = any",
		 "f:2: peer: '/etc' is no peer name: letters, digits and ._@+-, at most 63"},
		{MIN_LINK "liveness = ping", "f:1: link ipsec1: 'liveness = ping' needs 'address' "
					     "or 'address6' to know whom to ping"},
		{MIN_LINK "ike-psk = /p", "f:1: link ipsec1: ike-... without 'ike': name the connection, as ike = east"},
		{MIN_LINK "ike = y\nike-psk = p",
		 "f:5: ike-psk: write /ABSOLUTE/PATH of a file, without blanks; secrets never stand here"},
		{MIN_LINK "ike = y\nike-psk = /p",
		 "f:1: link ipsec1: 'ike-peer-id' must say whose secret it is: the path names no address"},
		{MIN_LINK "ike = y\nike-peer-id = e\nike-psk = /p\nike-cert = /c\nike-key = /k\nike-ca = /a",
		 "f:1: link ipsec1: ike-psk and certificates are one choice"},
		{MIN_LINK "ike = y\nike-peer-id = e\nike-cert = /c",
		 "f:1: link ipsec1: certificates need all of ike-cert, ike-key and ike-ca"},
		{MIN_LINK "ike = y\nike-cert = /c\nike-key = /k\nike-ca = /a",
		 "f:1: link ipsec1: with certificates 'ike-peer-id' must say whose: else anybody with one of that CA would do"},
		{MIN_LINK "ike = y\nike-rekey = 5s", "f:5: ike-rekey: '5s' is no time from 10s to 10080m, as 60m"},
		{"[link ipsec0]\npeer = e\npath = any\nike = y",
		 "f:1: link ipsec0: IKE knows links by their number, and 0 means none: call it ipsec1 or higher"},
		{MIN_LINK "ike = y\nike-start = on-demand",
		 "f:1: link ipsec1: 'ike-start = on-demand' needs to know where the peer is: a path with an address or a name"},
		{MIN_LINK "ike = y\nike-idle = 10m", "f:1: link ipsec1: 'ike-idle' ends what 'ike-start = yes' begins: make that on-demand, or no"},
		{MIN_LINK "offload = auto",
		 "f:1: link ipsec1: 'offload' is asked of the kernel, and workers have this link: backend = xfrm or auto, or offload = off"},
		{MIN_LINK "ike = y\nike-idle = 0s", "f:5: ike-idle: '0s' is neither 'off' nor a time from 1s to 10080m, as 10m"},
		{MIN_LINK "ike-vips = 10.0.0.0/8", "f:4: ike-vips: write at most 8 addresses: 0.0.0.0 and :: for whichever the peer gives"},
		{MIN_LINK "ike-vips = ::", "f:1: link ipsec1: virtual addresses are IKE's to give: name the connection, as ike = east"},
		{MIN_LINK "ike = y\nike-vips = ::\nike-pool = 10.9.0.0/24",
		 "f:1: link ipsec1: 'ike-vips' asks for addresses, 'ike-pool' gives them: one end does the one, the other the other"},
		{MIN_LINK "ike = y\naddress = 10.9.0.1\nike-pool = fd09::/64",
		 "f:1: link ipsec1: the peer's address is missing: 10.9.0.1 peer FAR, or an ike-pool of that family"},
		{MIN_LINK "ike = y\naddress = 10.9.0.1\nike-pool = 10.9.0.0/24",
		 "f:1: link ipsec1: its own address 10.9.0.1 lies in its ike-pool and would be given away"},
		{MIN_LINK "ike = y\nike-pool = 10.9.0.0/24\n[link ipsec2]\npeer = w\npath = any\naddress = 10.8.0.1 peer 10.9.0.7",
		 "f:6: link ipsec2: the far address 10.9.0.7 lies in the ike-pool of link ipsec1 and would be given away"},
		{MIN_LINK "ike = y\nike-pool = 10.9.0.0/24\n[link ipsec2]\npeer = w\npath = any\nike = x\nike-pool = 10.9.0.128/25",
		 "f:6: link ipsec2: ike-pool 10.9.0.128/25 overlaps 10.9.0.0/24 of link ipsec1: the same addresses would be given twice"},
		{MIN_LINK "sa = file:/x\nike = y",
		 "f:5: 'ike' is given twice, first on line 4 (sa and ike are one choice)"},
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(rows); i++)
		refused(rows[i].text, rows[i].says);
}

static void test_refused_across_links(void **state)
{
	static const struct {
		const char *a, *b, *says;
	} rows[] = {
		{"peer = e", "peer = e",
		 "f:5: link ipsec2: the peer name (two links to one host: peer = east-2) is "
		 "already "
		 "that of link ipsec1 (f:1)"},
		{"sa = file:/x", "sa = file:/x",
		 "f:6: link ipsec2: the SA file is already that of link ipsec1 (f:1)"},
		{"address = 1.0.0.1 peer 1.0.0.2", "address = 1.0.0.1 peer 1.0.0.2",
		 "f:6: link ipsec2: the far address is already that of link ipsec1 (f:1)"},
		{"address6 = fd00::1 peer fd00::2", "address6 = fd00::3 peer fd00::2",
		 "f:6: link ipsec2: the far address is already that of link ipsec1 (f:1)"},
		{"address = 1.0.0.1 peer 1.0.0.2", "address = 1.0.0.2 peer 1.0.0.3",
		 "f:6: link ipsec2: its own address 1.0.0.2 is the far address of link ipsec1"},
		{"address = 1.0.0.1 peer 1.0.0.2",
		 "address = 1.0.0.3 peer 10.0.0.9\npath = 10.0.0.9",
		 "f:6: link ipsec2: inner and outer addresses must be distinct: 10.0.0.9 is both"},
		{"address = 1.0.0.1 peer 1.0.0.2",
		 "address = 1.0.0.3 peer 1.0.0.4\npath = 10.0.0.9 local 1.0.0.3",
		 "f:6: link ipsec2: inner and outer addresses must be distinct: 1.0.0.3 is both"},
	};
	char text[800];

	for (unsigned int i = 0; i < ARRAY_SIZE(rows); i++) {
		bool peers = !strncmp(rows[i].a, "peer", 4);

		snprintf(text, sizeof text,
			 "[link ipsec1]\npath = any\n%s\n%s[link ipsec2]\npath = any\n%s\n%s",
			 rows[i].a, peers ? "\n" : "peer = e1\n\n", rows[i].b,
			 peers ? "" : "peer = e2\n");
		refused(text, rows[i].says);
	}
	refused(MIN_LINK "[link ipsec:1]\npath = any\npeer = e2\n",
		"f:4: link ipsec1: the name is already that of link ipsec1 (f:1)");
	refused("[ipsecd]\nmax-links = 1\n" MIN_LINK "[link ipsec2]\npath = any\npeer = e2\n",
		"f:6: link ipsec2: more than max-links = 1 links");
}

/* Same far address in two namespaces, same own address on two links: both are ordinary. */
static void test_allowed_across_links(void **state)
{
	struct conf c;

	good(&c,
	     "[link ipsec1]\npath = any\npeer = a\nnetns = blue\naddress = 1.0.0.1 peer 1.0.0.2\n"
	     "[link ipsec2]\npath = any\npeer = b\nnetns = red\naddress = 1.0.0.2 peer 1.0.0.1\n"
	     "[link ipsec3]\npath = any\npeer = c\naddress = 1.0.0.1 peer 1.0.0.2\n"
	     "[link ipsec4]\npath = any\npeer = d\naddress = 1.0.0.1 peer 1.0.0.3\n");
	conf_free(&c);
}

static void test_all_errors_in_one_go(void **state)
{
	static const char text[] =
		"[ipsecd]\nworkers = x\nfoo\n[link ipsec1]\n# comment\n\npeer = a b\npath = any x "
		"y\n"
		"mtu = 1\n[bogus]\nignored = 1\n[link ipsec2]\npeer = z\npath = any\nmetric = y\n";
	static const char *const at[] = {
		"f:2: ", "f:3: ", "f:7: ", "f:8: ", "f:9: ", "f:10: ", "f:15: "};
	struct conf c;
	struct said s;
	const char *p;
	int n = parse(&c, text, &s);

	assert_int_equal(n, ARRAY_SIZE(at));
	assert_int_equal(lines(s.text), ARRAY_SIZE(at));
	p = s.text;
	for (unsigned int i = 0; i < ARRAY_SIZE(at); i++) {
		assert_int_equal(strncmp(p, at[i], strlen(at[i])), 0);
		p = strchr(p, '\n') + 1;
	}
	free(s.text);
	conf_free(&c);
}

/* Somebody pastes a key where the name of the file belongs: it must not travel on (I3). */
static void test_secrets_not_echoed(void **state)
{
	static const char key[] = "8f3a1c77d0e94b25a6f1832c4d5e6f70";
	static const char *const at[] = {"sa = %s", "sa = 0x%s",    "ike = %s %s",
					 "%s",      "sa = file:%s", "sa = key %s"};
	char text[300], line[120], err[300];
	struct link_conf l;
	struct conf c;
	struct said s;

	for (unsigned int i = 0; i < ARRAY_SIZE(at); i++) {
		snprintf(line, sizeof line, at[i], key, key);
		snprintf(text, sizeof text, MIN_LINK "%s\n", line);
		assert_int_equal(parse(&c, text, &s), 1);
		assert_null(strstr(s.text, "8f3a1c"));
		free(s.text);
		conf_free(&c);
	}
	link_conf_init(&l);
	assert_int_equal(link_conf_set(&l, "sa", key, err, sizeof err), -EINVAL);
	assert_null(strstr(err, "8f3a1c"));
}

/* --- transport mode ------------------------------------------------------------------------ */

static void write_sa(const char *path, const char *mode)
{
	FILE *f = fopen(path, "we");

	assert_non_null(f);
	assert_int_equal(fchmod(fileno(f), 0600), 0);
	for (int i = 0; i < 2; i++)
		fprintf(f,
			"[%s]\nspi = 0x10%d\nalg = aes-gcm-128\nkey = 8f3a1c77d0e94b25a6f1832c4d5e6f7%d\n"
			"salt = c0ffee0%d\nmode = %s\n",
			i ? "in" : "out", i, i, i, mode);
	fclose(f);
}

/*
 * Seed, section 5: inner and outer address may be one only where there is no inner header, and only
 * if a mark tells raw packets from envelopes.
 */
static void test_shared_addresses(void **state)
{
	static const struct {
		const char *mode; /* NULL: no such file */
		const char *link, *says; /* NULL: accepted */
	} rows[] = {
		{"transport", "address = 192.0.2.1 peer 192.0.2.2\npath = 192.0.2.2 fwmark 1\n", NULL},
		{"transport", "address = 192.0.2.1 peer 192.0.2.2\npath = 192.0.2.2 local 192.0.2.1 "
			      "fwmark 1\nprotect = 192.0.2.2\n", NULL},
		{"transport", "address6 = fd00::1 peer fd00::2\npath = fd00::2 fwmark 0x51\n", NULL},
		{"transport", "address = 192.0.2.1 peer 192.0.2.2\npath = 192.0.2.2\n",
		 "inner and outer addresses must be distinct: 192.0.2.2 is both: in transport mode that "
		 "path needs a fwmark, and a rule for it, or envelopes are routed into the link again"},
		{"transport", "address = 192.0.2.2 peer 192.0.2.1\npath = 192.0.2.2 fwmark 1\n",
		 "inner and outer addresses must be distinct: 192.0.2.2 is both"},
		{"transport", "address = 192.0.2.1 peer 192.0.2.2\npath = 10.0.0.1 local 192.0.2.2 fwmark 1\n",
		 "inner and outer addresses must be distinct: 192.0.2.2 is both"},
		{"tunnel", "address = 192.0.2.1 peer 192.0.2.2\npath = 192.0.2.2 fwmark 1\n",
		 "inner and outer addresses must be distinct: 192.0.2.2 is both (only transport mode "
		 "shares them)"},
		{"tunnel", "path = 192.0.2.2 fwmark 1\nprotect = 192.0.2.0/24, 192.0.2.2/32\n",
		 "what is protected cannot be the peer's own address: 192.0.2.2 is both (only transport "
		 "mode shares them)"},
		{"tunnel", "path = 192.0.2.2\nprotect = 192.0.2.0/24, 192.0.2.3/32\n", NULL},
		{NULL, "address = 192.0.2.1 peer 192.0.2.2\npath = 192.0.2.2 fwmark 1\n",
		 "inner and outer addresses must be distinct: 192.0.2.2 is both (transport mode could "
		 "share it; the SA file cannot be read)"},
	};
	char file[] = "/tmp/espwire-conf-XXXXXX", text[600], says[400];
	struct conf c;
	int fd = mkstemp(file);

	assert_true(fd >= 0);
	close(fd);
	for (unsigned int i = 0; i < ARRAY_SIZE(rows); i++) {
		unlink(file);
		if (rows[i].mode)
			write_sa(file, rows[i].mode);
		snprintf(text, sizeof text, "[link ipsec1]\npeer = e\nsa = file:%s\n%s", file,
			 rows[i].link);
		if (rows[i].says) {
			snprintf(says, sizeof says, "f:1: link ipsec1: %s", rows[i].says);
			refused(text, says);
			continue;
		}
		good(&c, text);
		conf_free(&c);
	}
	unlink(file);
}

/* --- limits ----------------------------------------------------------------------------- */

static void test_limits(void **state)
{
	char text[4000], err[400], name[400];
	struct link_conf l;
	struct conf c;
	int i;

	link_conf_init(&l);
	for (i = 0; i < PATHS_MAX; i++) {
		snprintf(text, sizeof text, "10.0.0.%d", i + 1);
		assert_int_equal(link_conf_set(&l, "path", text, err, sizeof err), 0);
	}
	assert_int_equal(link_conf_set(&l, "path", "10.1.0.1", err, sizeof err), -EINVAL);
	assert_string_equal(err, "path: more than 8 paths on one link");
	for (i = 0; i < PREFIXES_MAX; i++) {
		snprintf(text, sizeof text, "10.%d.%d.0/24", i / 256, i % 256);
		assert_int_equal(link_conf_set(&l, "protect", text, err, sizeof err), 0);
	}
	assert_int_equal(link_conf_set(&l, "protect", "11.0.0.0/8", err, sizeof err), -EINVAL);
	assert_string_equal(err, "protect: more than 4096 prefixes in one list");
	assert_int_equal(l.protect.n, PREFIXES_MAX);
	link_conf_free(&l);

	link_conf_init(&l);
	memset(name, 'a', sizeof name);
	name[PEER_NAME_MAX - 1] = 0;
	assert_int_equal(link_conf_set(&l, "peer", name, err, sizeof err), 0);
	assert_string_equal(l.peer, name);
	assert_int_equal(link_conf_set(&l, "netns", name, err, sizeof err), 0);
	assert_int_equal(link_conf_set(&l, "path", name, err, sizeof err), 0); /* a label of 63 */
	name[PEER_NAME_MAX - 1] = 'a';
	name[PEER_NAME_MAX] = 0;
	assert_int_equal(link_conf_set(&l, "peer", name, err, sizeof err), -EINVAL);
	assert_int_equal(link_conf_set(&l, "netns", name, err, sizeof err), -EINVAL);
	assert_int_equal(link_conf_set(&l, "path", name, err, sizeof err), -EINVAL);
	assert_int_equal(strlen(l.peer), PEER_NAME_MAX - 1);
	for (i = 0; i < 253; i++)
		name[i] = i % 50 == 49 ? '.' : 'h';
	name[253] = 0;
	assert_int_equal(link_conf_set(&l, "path", name, err, sizeof err), 0);
	assert_string_equal(l.paths[1].host, name);
	strcpy(name + 253, "h");
	assert_int_equal(link_conf_set(&l, "path", name, err, sizeof err), -EINVAL);
	link_conf_free(&l);

	memset(text, 'd', sizeof text);
	memcpy(text, "file:/", 6);
	text[5 + SA_FILE_MAX - 1] = 0;
	link_conf_init(&l);
	assert_int_equal(link_conf_set(&l, "sa", text, err, sizeof err), 0);
	assert_int_equal(strlen(l.sa_file), SA_FILE_MAX - 1);
	text[5 + SA_FILE_MAX - 1] = 'd';
	text[5 + SA_FILE_MAX] = 0;
	assert_int_equal(link_conf_set(&l, "sa", text, err, sizeof err), -EINVAL);

	good(&c, "[link ipsec65535]\npeer=a\npath=any\n[link ipsec0]\npeer=b\npath=any\n");
	assert_int_equal(c.links[0].number, 65535);
	assert_int_equal(c.links[1].number, 0);
	conf_free(&c);
}

/* Length of a line, counted with its newline: 65535 is read whole, 65536 is refused and the next
 * line still read. */
static void test_long_lines(void **state)
{
	enum { LEN = 65535 };
	char *text = malloc(LEN + 200), *p = text;
	struct conf c;
	struct said s;

	p += sprintf(p, MIN_LINK);
	memset(p, ' ', LEN);
	memcpy(p, "route = ", 8);
	memcpy(p + LEN - 1 - 11, "10.2.0.0/16\n", 12);
	strcpy(p + LEN, "mtu = 1400\n");
	good(&c, text);
	assert_int_equal(c.links[0].routes.n, 1);
	assert_int_equal(c.links[0].mtu, 1400);
	conf_free(&c);

	memmove(p + 100, p + 99, LEN + 12 - 99);
	assert_int_equal(parse(&c, text, &s), 1);
	assert_string_equal(
		s.text,
		"f:4: the line is longer than 65535 bytes; lists may go over several lines\n");
	assert_int_equal(c.links[0].mtu, 1400);
	free(s.text);
	conf_free(&c);
	free(text);
}

static void test_nul_bytes(void **state)
{
	static const char text[] = "[link ipsec1]\npeer = e\0x\npath = any\0\n";
	char file[] = "/tmp/espwire-conf-XXXXXX";
	int fd = mkstemp(file);
	struct conf c;
	struct said s;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, sizeof text - 1), sizeof text - 1);
	close(fd);
	said_open(&s);
	assert_int_equal(conf_load(&c, file, s.f), 4); /* two lines, and so two missing keys */
	fclose(s.f);
	assert_non_null(strstr(s.text, ":2: control character in the line\n"));
	assert_non_null(strstr(s.text, ":3: control character in the line\n"));
	free(s.text);
	conf_free(&c);
	unlink(file);
}

static double seconds(void)
{
	return now_ns() / 1e9;
}

static void many_links(unsigned int n, int want_errors)
{
	size_t len;
	char *text;
	FILE *f = open_memstream(&text, &len);
	double t0;
	struct conf c;
	struct said s;

	fprintf(f, "[ipsecd]\nmax-links = 16384\n");
	for (unsigned int i = 0; i < n; i++)
		fprintf(f,
			"[link ipsec%u]\npeer = p%u\naddress = 10.%u.%u.1 peer 10.%u.%u.2\npath = "
			"198.51.%u.%u\nprotect = "
			"11.%u.%u.0/24\nsa = file:/x/%u\n",
			i, i, i / 256, i % 256, i / 256, i % 256, i / 256, i % 256, i / 256,
			i % 256, i);
	fclose(f);
	t0 = seconds();
	assert_int_equal(parse(&c, text, &s), want_errors);
	print_message("%u links: %.0f ms\n", n, (seconds() - t0) * 1e3);
	assert_true(seconds() - t0 < 20);
	assert_int_equal(c.n_links, MIN(n, LINK_MAX));
	assert_int_equal(c.links[4999].number, 4999);
	assert_string_equal(c.links[4999].peer, "p4999");
	if (want_errors)
		assert_string_equal(s.text, "f:98307: more than 16384 links\n");
	free(s.text);
	free(text);
	conf_free(&c);
}

static void test_many_links(void **state)
{
	many_links(5000, 0);
	many_links(LINK_MAX, 0);
	many_links(LINK_MAX + 1, 1);
}

/* --- print = parse ------------------------------------------------------------------------ */

static unsigned int rnd(unsigned int n)
{
	return (unsigned int)random() % n;
}

static struct in6_addr rnd_addr(bool is4)
{
	struct in6_addr a = {0};

	for (unsigned int i = 0; i < 16; i++)
		a.s6_addr[i] = rnd(3) ? rnd(256) : 0;
	if (is4) {
		struct in_addr v4 = {htonl((1 + rnd(126)) << 24 | rnd(1 << 24))};

		return addr_from4(v4);
	}
	a.s6_addr[0] = rnd(2) ? 0x20 : 0xfd;
	return a;
}

static void rnd_name(char *s, size_t max, const char *extra)
{
	static const char alnum[] = "abcxyzABCXYZ0189";
	size_t n = 1 + rnd(rnd(8) ? MIN(max - 1, 9u) : max - 1);

	for (size_t i = 0; i < n; i++)
		s[i] = i && !rnd(4) ? extra[rnd(strlen(extra))] : alnum[rnd(16)];
	s[n] = 0;
}

static void rnd_prefixes(struct prefixes *l, unsigned int tag)
{
	unsigned int n = rnd(4) ? rnd(4) : rnd(40);

	l->p = n ? calloc(n, sizeof *l->p) : NULL;
	l->n = n;
	for (unsigned int i = 0; i < n; i++) {
		struct prefix *p = &l->p[i];

		/* i at a fixed place keeps them distinct */
		p->is4 = rnd(2);
		p->addr = rnd_addr(p->is4);
		p->addr.s6_addr[p->is4 ? 13 : 1] = i;
		p->len = 16 + rnd(p->is4 ? 17 : 113);
		for (unsigned int b = p->len + (p->is4 ? 96 : 0); b < 128; b++)
			p->addr.s6_addr[b / 8] &= ~(0x80 >> b % 8);
	}
}

static void rnd_path(struct path_conf *p, unsigned int i)
{
	memset(p, 0, sizeof *p);
	p->port = 4500;
	if (!i && !rnd(4)) {
		p->any = true;
	} else if (!rnd(3)) {
		sprintf(p->host, "h%u.example-%u.org", i, rnd(1000));
	} else {
		p->remote = rnd_addr(rnd(2));
		p->remote.s6_addr[15] = i;
	}
	if (!rnd(3)) {
		p->has_local = true;
		p->local = rnd_addr(p->any || p->host[0] ? rnd(2) : addr_is4(&p->remote));
	}
	if (rnd(2)) {
		p->encap = ENCAP_UDP;
		p->port = rnd(2) ? 4500 : 1 + rnd(65535);
	}
	p->fwmark = rnd(2) ? 0 : (uint32_t)random() | 1;
	p->table = rnd(2) ? 0 : (uint32_t)random() | 1;
	p->weight = rnd(2) ? 0 : 1 + rnd(65535);
	if (p->any && rnd(2)) {
		p->n_from = 2;
		prefix_parse("24.0.0.0/8", &p->from[0]);
		prefix_parse("2001:db8::/32", &p->from[1]);
	}
	if (p->any && rnd(2)) {
		p->has_at = true;
		addr_parse(rnd(2) ? "24.4.251.46" : "2001:db8::7", &p->at);
	}
}

static void rnd_p2p(struct p2p *p, bool is4, unsigned int i)
{
	if (rnd(2))
		return;
	/* own ones end in an odd byte, far ones in an even one that carries the number: no
	 * conflicts */
	p->set = true;
	p->own = rnd_addr(is4);
	p->far = rnd_addr(is4);
	p->own.s6_addr[15] |= 1;
	p->far.s6_addr[14] = i;
	p->far.s6_addr[15] = 200;
}

static void rnd_ike(struct link_conf *l, unsigned int i)
{
	struct ike_auth *a = &l->auth;

	snprintf(l->ike, sizeof l->ike, "c%u-%u", i, rnd(1000));
	if (rnd(2))
		sprintf(a->id, "C=CH, O=x, CN=%u", rnd(9));
	sprintf(a->peer_id, "p%u@example.org", rnd(9));
	if (rnd(2)) {
		sprintf(a->psk, "/p#;\\/%u", rnd(9));
	} else if (rnd(2)) {
		sprintf(a->cert, "/c%u", rnd(9));
		sprintf(a->key, "/k%u", rnd(9));
		sprintf(a->ca, "/ca%u", rnd(9));
	}
	if (rnd(2))
		strcpy(a->esp, "aes128gcm16-noesn");
	a->rekey_s = rnd(2) ? 3600 : 10 + rnd(600000);
	a->start = rnd(2) ? IKE_START_YES : IKE_START_NO;
	a->idle_s = a->start == IKE_START_YES ? 0 : rnd(1000);
}

static void rnd_link(struct link_conf *l, unsigned int i)
{
	link_conf_init(l);
	l->number = i * 300 + rnd(300);
	sprintf(l->name, "ipsec%u", l->number);
	sprintf(l->peer, "p%u.", i);
	rnd_name(l->peer + strlen(l->peer), sizeof l->peer - strlen(l->peer), "._@+-");
	rnd_p2p(&l->address, true, i);
	rnd_p2p(&l->address6, false, i);
	l->n_paths = 1 + rnd(PATHS_MAX);
	for (unsigned int k = 0; k < l->n_paths; k++)
		rnd_path(&l->paths[k], k);
	rnd_prefixes(&l->inner, i);
	rnd_prefixes(&l->protect, i);
	rnd_prefixes(&l->routes, i);
	l->metric = rnd(2) ? 10 : 1 + (uint32_t)random();
	l->mtu = rnd(2) ? 0 : 1280 + rnd(9000 - 1280 + 1);
	if (rnd(2))
		rnd_name(l->netns, sizeof l->netns, "._@:+-");
	l->liveness = rnd(3);
	if (l->liveness == LIVE_PING && !l->address.set && !l->address6.set)
		l->liveness = LIVE_PROBE;
	if (l->liveness != LIVE_OFF && rnd(2)) {
		l->live_ms = 10 + rnd(600000 - 9);
		l->live_count = 1 + rnd(255);
	}
	if (rnd(2))
		sprintf(l->sa_file, "/k#;\\/%u", i);
	else if (l->number && rnd(2))
		rnd_ike(l, i);
	l->input = rnd(3);
	l->backend = rnd(3);
	l->offload = l->backend == BACKEND_AFXDP ? OFFLOAD_OFF : rnd(4);
	if (l->offload != OFFLOAD_OFF && rnd(2))
		sprintf(l->offload_dev, "eth%u", rnd(100));
	l->outer.dscp_fixed = rnd(2);
	l->outer.dscp = l->outer.dscp_fixed ? rnd(64) : 0;
	l->outer.ecn_off = rnd(2);
	l->outer.ttl_copy = rnd(2);
	l->outer.ttl = l->outer.ttl_copy ? 0 : rnd(256);
	l->outer.df = rnd(4);
	l->keepalive_ms = rnd(3) ? 20000 : rnd(2) ? 0 : 1000 + rnd(3599001);
	l->mss_clamp = rnd(2) ? 0 : rnd(2) ? MSS_BY_MTU : 536 + rnd(9000);
	l->no_link_local = rnd(2);
	l->cores = rnd(2) ? 0 : 2 + rnd(63);
	l->tfc = rnd(2) ? 0 : rnd(2) ? TFC_MTU : 1 + rnd(9000);
	l->cover = rnd(2) ? 0 : 1 + rnd(1000);
	l->down = rnd(2);
}

static void rnd_conf(struct conf *c)
{
	static const char *const crypto[] = {"auto", "ipsec-mb", "openssl"};
	unsigned int n = rnd(5) ? rnd(5) : rnd(200);

	conf_init(c);
	if (rnd(2))
		rnd_name(c->instance, sizeof c->instance, "_-");
	c->workers = rnd(2) ? 0 : 1 + rnd(64);
	strcpy(c->crypto, crypto[rnd(3)]);
	c->max_links = rnd(2) ? 4096 : 200 + rnd(16384 - 199);
	c->audit = rnd(2);
	if (rnd(2))
		strcpy(c->ike_socket, "/run/a;b");
	if (rnd(2))
		strcpy(c->vici_socket, "/run/v#1");
	c->gso_queue = rnd(2) ? 1000 : 16 + rnd(1000000 - 15);
	c->xsk_queue = rnd(2) ? 4096 : 512 + rnd(65536 - 511);
	c->esp_shared = rnd(2);
	c->input = rnd(3);
	c->n_devices = rnd(2) ? 0 : 1 + rnd(20);
	c->devices_auto = !c->n_devices;
	c->devices = c->n_devices ? calloc(c->n_devices, sizeof *c->devices) : NULL;
	for (unsigned int i = 0; i < c->n_devices; i++)
		snprintf(c->devices[i], sizeof *c->devices, "%s%u%s", rnd(2) ? "eth" : "[w]?*",
			 i % 100u, rnd(2) ? "*" : "#;");
	c->links = n ? calloc(n, sizeof *c->links) : NULL;
	c->n_links = n;
	for (unsigned int i = 0; i < n; i++)
		rnd_link(&c->links[i], i);
}

static char *print(const struct conf *c, bool all)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	conf_print(c, f, all);
	fclose(f);
	return text;
}

static void test_round_trip(void **state)
{
	unsigned int seed =
		getenv("SEED") ? strtoul(getenv("SEED"), NULL, 0) : (unsigned int)now_ns();
	unsigned int links = 0;

	print_message("SEED=%u\n", seed);
	srandom(seed);
	for (unsigned int i = 0; i < 1000; i++) {
		bool all = i % 2;
		struct conf a, b;
		char *text, *again;

		rnd_conf(&a);
		links += a.n_links;
		text = print(&a, all);
		good(&b, text);
		if (!conf_equal(&a, &b))
			print_error("%s", text);
		assert_true(conf_equal(&a, &b));
		again = print(&b, all);
		assert_string_equal(text, again);
		free(text);
		free(again);
		conf_free(&a);
		conf_free(&b);
	}
	print_message("1000 configurations, %u links\n", links);
}

/* --- one link: set, reset, copy, equal -------------------------------------------------------- */

static void test_keys(void **state)
{
	static const struct {
		const char *key, *value;
	} rows[] = {
		{"peer", "east"},
		{"address", "10.9.0.1 peer 10.9.0.2"},
		{"address6", "fd09::1 peer fd09::2"},
		{"link-local", "no"},
		{"path", "any"},
		{"inner", "10.0.0.0/8"},
		{"protect", "10.0.0.0/8, fd00::/8"},
		{"route", "10.0.0.0/8"},
		{"metric", "11"},
		{"mtu", "1400"},
		{"mss-clamp", "yes"},
		{"netns", "blue"},
		{"liveness", "1s x 3"},
		{"keepalive", "30s"},
		{"sa", "file:/x"},
		{"ike", "conn"},
		{"ike-id", "C=CH, CN=west"},
		{"ike-peer-id", "*.east.example"},
		{"ike-psk", "/p"},
		{"ike-cert", "/c"},
		{"ike-key", "/k"},
		{"ike-ca", "/a"},
		{"ike-esp", "aes256gcm16-esn"},
		{"ike-rekey", "10m"},
		{"ike-start", "no"},
		{"ike-idle", "10m"},
		{"ike-vips", "0.0.0.0, ::"},
		{"ike-pool", "10.9.0.0/24"},
		{"input", "xdp"},
		{"backend", "xfrm"},
		{"offload", "auto eth1"},
		{"cores", "all"},
		{"tfc", "mtu"},
		{"cover", "7/s"},
		{"dscp", "8"},
		{"ecn", "off"},
		{"ttl", "copy"},
		{"df", "set"},
		{"state", "down"},
	};
	struct link_conf plain, l, copy;
	char err[400];
	unsigned int i;

	link_conf_init(&plain);
	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_string_equal(conf_link_key(i), rows[i].key);
		link_conf_init(&l);
		assert_true(link_conf_equal(&l, &plain));
		assert_int_equal(link_conf_set(&l, rows[i].key, rows[i].value, err, sizeof err), 0);
		assert_false(link_conf_equal(&l, &plain));
		assert_int_equal(link_conf_copy(&copy, &l), 0);
		assert_true(link_conf_equal(&copy, &l));
		assert_int_equal(link_conf_reset(&l, rows[i].key), 0);
		assert_true(link_conf_equal(&l, &plain));
		assert_false(link_conf_equal(&l, &copy)); /* deep */
		link_conf_free(&l);
		link_conf_free(&copy);
	}
	assert_null(conf_link_key(i));
	assert_int_equal(link_conf_reset(&plain, "nonsense"), -EINVAL);
	link_conf_free(NULL);
	conf_free(NULL);
}

static void test_set(void **state)
{
	struct link_conf l, before;
	char err[400];

	link_conf_init(&l);
	assert_int_equal(
		link_conf_set(&l, "route", "10.0.0.0/8 11.0.0.0/8 12.0.0.0/8", err, sizeof err), 0);
	assert_int_equal(link_conf_copy(&before, &l), 0);
	assert_int_equal(link_conf_set(&l, "route", "13.0.0.0/8, 14.0.0.1/8", err, sizeof err),
			 -EINVAL);
	assert_true(link_conf_equal(&l, &before)); /* all or nothing */
	assert_int_equal(link_conf_set(&before, "route", "13.0.0.0/8", err, sizeof err),
			 0); /* a copy grows */
	assert_int_equal(before.routes.n, 4);
	assert_int_equal(l.routes.n, 3);
	link_conf_free(&before);

	assert_int_equal(link_conf_set(&l, "sa", "file:/x", err, sizeof err), 0);
	assert_int_equal(link_conf_set(&l, "ike", "conn", err, sizeof err), 0);
	assert_string_equal(l.sa_file, "");
	assert_int_equal(link_conf_set(&l, "sa", "file:/x", err, sizeof err), 0);
	assert_string_equal(l.ike, "");

	assert_int_equal(link_conf_set(&l, "lifeness", "off", err, sizeof err), -EINVAL);
	assert_string_equal(err, "unknown key 'lifeness': did you mean 'liveness'?");
	assert_int_equal(link_conf_set(&l, "frobnicate", "off", err, sizeof err), -EINVAL);
	assert_string_equal(err, "unknown key 'frobnicate'; a link has: peer address address6 link-local path "
				 "inner protect route "
				 "metric mtu mss-clamp netns liveness keepalive sa ike ike-id ike-peer-id ike-psk "
				 "ike-cert ike-key ike-ca ike-esp ike-rekey ike-start ike-idle ike-vips ike-pool input backend offload cores tfc cover dscp ecn ttl df state");
	assert_int_equal(link_conf_set(&l, "mtu", "", err, sizeof err), -EINVAL);
	assert_int_equal(link_conf_set(&l, "mtu", "1\x1b[2J", err, sizeof err), -EINVAL);
	assert_null(strchr(err, 0x1b));
	assert_int_equal(link_conf_set(&l, "mt\x1b", "1", err, sizeof err), -EINVAL);
	assert_null(strchr(err, 0x1b));
	assert_int_equal(link_conf_set(&l, "mtu", "1", err, 4), -EINVAL);
	assert_string_equal(err, "mtu");
	link_conf_free(&l);
}

/* --- files ----------------------------------------------------------------------------------- */

static char dir[PATH_MAX];

static int make_dir(void **state)
{
	strcpy(dir, "/tmp/espwire-conf-XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
	char cmd[PATH_MAX + 20];

	snprintf(cmd, sizeof cmd, "rm -rf '%s'", dir);
	return system(cmd);
}

static void write_file(const char *name, const char *text)
{
	char path[PATH_MAX + 40];
	FILE *f;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static int load(struct conf *c, const char *name, struct said *s)
{
	char path[PATH_MAX + 40];
	int n;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	said_open(s);
	n = conf_load(c, path, s->f);
	fclose(s->f);
	return n;
}

static void test_drop_ins(void **state)
{
	char path[PATH_MAX + 40];
	struct conf c;
	struct said s;

	write_file("x.conf", "[ipsecd]\nworkers = 2\n" MIN_LINK);
	assert_int_equal(load(&c, "x.conf", &s), 0); /* no directory: fine */
	assert_int_equal(c.n_links, 1);
	free(s.text);
	conf_free(&c);

	snprintf(path, sizeof path, "%s/x.d", dir);
	assert_int_equal(mkdir(path, 0700), 0);
	write_file("x.d/20.conf", "[link ipsec3]\npeer = c\npath = any\n");
	write_file("x.d/10.conf",
		   "mtu = 1400\n[link ipsec2]\npeer = b\npath = any\n[ipsecd]\nworkers = 3\n");
	write_file("x.d/.hidden.conf", "junk");
	write_file("x.d/30.conf~", "junk");
	write_file("x.d/40.txt", "junk");
	assert_int_equal(load(&c, "x.conf", &s), 2);
	assert_int_equal(c.n_links, 3);
	assert_string_equal(c.links[1].name, "ipsec2"); /* sorted */
	assert_string_equal(c.links[2].name, "ipsec3");
	assert_int_equal(c.links[1].src_line, 2);
	/* a file never continues the section of the one before it */
	assert_non_null(strstr(s.text, "/x.d/10.conf:1: 'mtu' stands in no section"));
	assert_non_null(strstr(s.text, "/x.d/10.conf:6: 'workers' is given twice, first at /tmp/"));
	assert_non_null(strstr(s.text, "/x.conf:2\n"));
	free(s.text);
	conf_free(&c);

	snprintf(path, sizeof path, "%s/x.d/50.conf", dir);
	assert_int_equal(symlink("/nonexistent", path), 0);
	assert_int_equal(load(&c, "x.conf", &s), 3);
	assert_non_null(strstr(s.text, "/x.d/50.conf: cannot read: No such file or directory\n"));
	free(s.text);
	conf_free(&c);
}

static void test_unreadable(void **state)
{
	struct conf c;
	struct said s;

	assert_int_equal(load(&c, "none.conf", &s), -ENOENT);
	assert_non_null(strstr(s.text, "/none.conf: cannot read: No such file or directory\n"));
	free(s.text);
	conf_free(&c);
	assert_int_equal(load(&c, ".", &s), 1);
	assert_non_null(strstr(s.text, "read error: Is a directory"));
	free(s.text);
	conf_free(&c);
	assert_int_equal(conf_load(&c, "/nonexistent/x", NULL), -ENOENT);
	conf_free(&c);
	assert_true(conf_parse_string(&c, "junk", "f", NULL) == 1); /* errs may be NULL */
	conf_free(&c);
}

/* The manual's example is valid, and the manual names every key. */
static void test_manual(void **state)
{
	FILE *f = fopen("docs/man/ipsecd.conf.5", "r");
	char line[500], *text = NULL, *man = NULL, want[40];
	size_t len, man_len;
	FILE *out = open_memstream(&text, &len), *all = open_memstream(&man, &man_len);
	bool examples = false, literal = false;
	struct conf c;

	assert_non_null(f);
	while (fgets(line, sizeof line, f)) {
		fputs(line, all);
		examples |= !strcmp(line, ".Sh EXAMPLES\n");
		if (examples && !strncmp(line, ".Ed", 3))
			literal = false;
		if (literal)
			fputs(line, out);
		if (examples && !strncmp(line, ".Bd -literal", 12))
			literal = true;
	}
	fclose(f);
	fclose(out);
	fclose(all);
	good(&c, text);
	assert_true(c.n_links >= 2);
	for (unsigned int i = 0; conf_link_key(i); i++) {
		snprintf(want, sizeof want, "Ic %s ", conf_link_key(i));
		if (!strstr(man, want))
			fail_msg("the manual has no '%s'", want);
	}
	conf_free(&c);
	free(text);
	free(man);
}

/* Several files of one link: read, printed, replaced one by one. */
static void test_sa_files(void **state)
{
	char err[400], file[SA_FILE_MAX], *text;
	const char *at = NULL;
	struct link_conf l;
	size_t len;
	FILE *f;

	link_conf_init(&l);
	assert_int_equal(link_conf_set(&l, "sa", "file:/a  file:/b\tfile:/c", err, sizeof err), 0);
	assert_string_equal(l.sa_file, "/a /b /c");
	at = link_conf_sa(l.sa_file, at, file);
	assert_string_equal(file, "/a");
	at = link_conf_sa(l.sa_file, at, file);
	at = link_conf_sa(l.sa_file, at, file);
	assert_string_equal(file, "/c");
	assert_null(link_conf_sa(l.sa_file, at, file));
	assert_null(link_conf_sa("", NULL, file));
	f = open_memstream(&text, &len);
	conf_print_link(&l, f);
	fclose(f);
	assert_non_null(strstr(text, "file:/a file:/b file:/c\n"));
	free(text);
	assert_int_equal(link_conf_sa_swap(&l, "/b", "/d"), 0);
	assert_string_equal(l.sa_file, "/a /d /c");
	assert_int_equal(link_conf_sa_swap(&l, NULL, "/c"), 0);
	assert_string_equal(l.sa_file, "/a /d /c");
	assert_int_equal(link_conf_sa_swap(&l, "/a", "/c"), 0);
	assert_string_equal(l.sa_file, "/c /d");
	assert_int_equal(link_conf_sa_swap(&l, "/none", "/e"), 0);
	assert_string_equal(l.sa_file, "/c /d /e");
	memset(l.sa_file, 'x', SA_FILE_MAX - 3);
	l.sa_file[SA_FILE_MAX - 3] = 0;
	assert_int_equal(link_conf_sa_swap(&l, NULL, "/f"), -ENAMETOOLONG);
	assert_int_equal(strlen(l.sa_file), SA_FILE_MAX - 3);
	assert_int_equal(link_conf_set(&l, "sa", "file:/a ike:b", err, sizeof err), -EINVAL);
	assert_non_null(strstr(err, "paths with blanks are not supported"));
	link_conf_free(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sa_files), cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_sketch),
		cmocka_unit_test(test_spellings),
		cmocka_unit_test(test_refused_link_lines),
		cmocka_unit_test(test_refused_main_lines),
		cmocka_unit_test(test_refused_across_links),
		cmocka_unit_test(test_allowed_across_links),
		cmocka_unit_test(test_all_errors_in_one_go),
		cmocka_unit_test(test_secrets_not_echoed),
		cmocka_unit_test(test_shared_addresses),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_long_lines),
		cmocka_unit_test(test_nul_bytes),
		cmocka_unit_test(test_many_links),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_keys),
		cmocka_unit_test(test_set),
		cmocka_unit_test_setup_teardown(test_drop_ins, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_unreadable, make_dir, remove_dir),
		cmocka_unit_test(test_manual),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
