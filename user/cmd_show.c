/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The verbs that look: show, sa list, path list, drops, why, mtu, perf, monitor. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "ctl.h"

#define GREEN  "\033[32m"
#define RED    "\033[31m"
#define YELLOW "\033[33m"

static json_t *name_arg(int argc, char **argv)
{
	return argc ? json_pack("{s:s}", "name", argv[0]) : json_object();
}

/* ---- --watch ---- */

static long rounds(const struct ctl *c)
{
	const char *n = ctl_opt(c, "--count");

	if (n)
		return atol(n) > 0 ? atol(n) : 1;
	return ctl_opt(c, "--watch") ? -1 : 1;
}

/* Ask again every second; fn sees the answer before as well. Return: exit code of the last round.
 */
static int watch(struct ctl *c, const char *verb, int argc, char **argv,
		 int (*fn)(struct ctl *c, json_t *r, json_t *before))
{
	json_t *before = NULL, *r = NULL;
	long left = rounds(c);
	int code = 0;

	c->relay = c->json && !isatty(STDOUT_FILENO);
	for (; left; left -= left > 0) {
		if (before) {
			sleep(1);
			if (c->color)
				printf("\033[H\033[J");
		}
		r = ctl_request(c, verb, name_arg(argc, argv));
		if (!ctl_finish(c, r, &code))
			code = fn(c, r, before);
		else if (code)
			left = 1;
		fflush(stdout);
		json_decref(before);
		before = r;
	}
	json_decref(before);
	return code;
}

/* ---- show ---- */

static json_t *by_name(json_t *r, const char *key, const char *name)
{
	json_t *l;
	size_t i;

	json_array_foreach (jat(r, "links"), i, l)
		if (!strcmp(json_string_value(json_object_get(l, key)), name))
			return l;
	return NULL;
}

static const char *path_text(json_t *l, char *buf, size_t len)
{
	json_t *p = jat(l, "path");

	if (!json_is_object(p))
		return "-";
	snprintf(buf, len, "%s%s%s", jnull(p, "remote") ? "unknown" : jstr(p, "remote"),
		 jnull(p, "dev") ? "" : " via ", jnull(p, "dev") ? "" : jstr(p, "dev"));
	return buf;
}

static double loss(json_t *l, json_t *old)
{
	double lost = jnum(l, "lost") - jnum(old, "lost"),
	       rx = jnum(l, "rx.packets") - jnum(old, "rx.packets");

	return lost + rx > 0 ? 100 * lost / (lost + rx) : 0;
}

static void traffic(json_t *l, json_t *old, const char *path, char *buf)
{
	if (old)
		fmt_rate(buf, jnum(l, path) - jnum(old, path));
	else
		fmt_bytes(buf, jnum(l, path));
}

static void link_row(struct table *t, json_t *l, json_t *old)
{
	char path[128], rx[FMT_LEN], tx[FMT_LEN], lo[FMT_LEN], seen[FMT_LEN], mtu[24], backend[64];
	bool up = !strcmp(jstr(l, "state"), "up");

	traffic(l, old, "rx.bytes", rx);
	traffic(l, old, "tx.bytes", tx);
	snprintf(lo, sizeof lo, "%.2f%%", loss(l, old));
	snprintf(mtu, sizeof mtu, "%d", (int)jint(l, "mtu"));
	snprintf(backend, sizeof backend, "%.40s/%d", jstr(l, "backend"), (int)jint(l, "worker"));
	table_row(t, (const char *[]){
			     jstr(l, "altname"), jstr(l, "state"), up ? "-" : jstr(l, "reason"),
			     jstr(l, "peer"), path_text(l, path, sizeof path), rx, tx, lo,
			     fmt_age(seen, jat(l, "liveness.last_heard_age_s")), mtu, backend});
	table_color(t, 1, up ? GREEN : !strcmp(jstr(l, "admin"), "down") ? YELLOW : RED);
}

static void daemon_notes(json_t *r)
{
	if (jint(r, "daemon.guard_layers.missing"))
		printf("warning: %d guard layers are missing: ipsecctl doctor\n",
		       (int)jint(r, "daemon.guard_layers.missing"));
	if (!jtrue(r, "daemon.guardian.alive"))
		printf("warning: the guardian is not running: carriers will not fall when ipsecd "
		       "dies\n");
	if (!jnull(r, "rollback_in_s"))
		printf("note: ipsecctl confirm within %.0f s, or the configuration goes back\n",
		       jnum(r, "rollback_in_s"));
}

static void say(const char *label, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(const char *label, const char *fmt, ...)
{
	va_list ap;

	printf("  %-10s ", label);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}

/* Return: what a NIC does for an SA, NULL = none was asked for */
static const char *sa_offload(json_t *s, char *buf, size_t len)
{
	bool does = strcmp(jstr(s, "offload.mode"), "off");

	if (!does && jnull(s, "offload.why"))
		return NULL;
	snprintf(buf, len, "%s %s", does ? jstr(s, "offload.mode") : "in software:", does ? jstr(s, "offload.device") : jstr(s, "offload.why"));
	return buf;
}

static void detail_sa(json_t *s)
{
	char used[FMT_LEN], bytes[FMT_LEN], nic[200];
	json_t *sel;
	size_t i;

	say("sa", "%s %s %s%s%s  key %s", jstr(s, "dir"), jstr(s, "spi"), jstr(s, "alg"),
	    jtrue(s, "esn") ? " esn" : "", jtrue(s, "in_use") ? "" : " (not in use)",
	    jstr(s, "fingerprint"));
	json_array_foreach (jat(s, "for"), i, sel)
		say("", "for %s", json_string_value(sel));
	if (sa_offload(s, nic, sizeof nic))
		say("", "offload %s", nic);
	if (!jnull(s, "refused"))
		say("", "refused: %s", jstr(s, "refused"));
	else
		say("", "seq %lld, %lld packets, %s, used %s ago", (long long)jint(s, "seq"),
		    (long long)jint(s, "packets"), fmt_bytes(bytes, jnum(s, "bytes")),
		    fmt_age(used, jat(s, "last_used_age_s")));
}

static void detail_liveness(json_t *v)
{
	char heard[FMT_LEN], trip[FMT_LEN], hears[FMT_LEN], rtt[FMT_LEN] = "-";

	if (!strcmp(jstr(v, "mode"), "off")) {
		say("liveness", "off: up as long as there are SAs and a path");
		return;
	}
	if (!jnull(v, "rtt_us"))
		snprintf(rtt, sizeof rtt, "%.3f ms", jnum(v, "rtt_us") / 1e3);
	say("liveness", "%s every %lld ms x %lld, rtt %s", jstr(v, "mode"),
	    (long long)jint(v, "interval_ms"), (long long)jint(v, "count"), rtt);
	say("", "heard %s, round trip %s, peer hears us %s",
	    fmt_age(heard, jat(v, "last_heard_age_s")),
	    fmt_age(trip, jat(v, "last_roundtrip_age_s")),
	    fmt_age(hears, jat(v, "peer_hears_us_age_s")));
}

static void detail_keepalive(json_t *l)
{
	if (strcmp(jstr(l, "path.encap"), "udp"))
		return;
	if (jnull(l, "keepalive.interval_ms"))
		say("keepalive", "off");
	else
		say("keepalive", "after %lld ms without an envelope, %lld sent",
		    (long long)jint(l, "keepalive.interval_ms"), (long long)jint(l, "keepalive.sent"));
}

static void detail_path(json_t *l)
{
	json_t *p = jat(l, "path");
	char port[24] = "", mark[32] = "";

	if (!json_is_object(p)) {
		say("path", "none");
		return;
	}
	if (!jnull(p, "port"))
		snprintf(port, sizeof port, " port %lld", (long long)jint(p, "port"));
	if (jint(p, "fwmark"))
		snprintf(mark, sizeof mark, " fwmark 0x%llx", (long long)jint(p, "fwmark"));
	say("path", "%s encap %s%s%s via %s src %s mtu %lld%s (%lld configured)", jstr(p, "remote"),
	    jstr(p, "encap"), port, mark, jstr(p, "dev"), jstr(p, "src"), (long long)jint(p, "mtu"),
	    jtrue(p, "learned") ? ", learned" : "", (long long)jint(l, "n_paths"));
}

static void detail_address(json_t *l, const char *own, const char *far)
{
	if (!jnull(l, own) && jnull(l, far))
		say(own, "%s, the peer's from ike-pool", jstr(l, own));
	else if (!jnull(l, own))
		say(own, "%s peer %s", jstr(l, own), jstr(l, far));
}

static void detail_virtual(json_t *list, const char *whose)
{
	json_t *a;
	size_t i;

	json_array_foreach (list, i, a)
		say("virtual", "%s, %s", json_string_value(a), whose);
}

static void detail(const struct ctl *c, json_t *l)
{
	char age[FMT_LEN], rx[FMT_LEN], tx[FMT_LEN];
	bool up = !strcmp(jstr(l, "state"), "up");
	json_t *s;
	size_t i;

	printf("link %s  peer %s\n", jstr(l, "name"), jstr(l, "peer"));
	say("state", "%s%s%s for %s, %s: %s", c->color ? up ? GREEN : RED : "", jstr(l, "state"),
	    c->color ? "\033[0m" : "", fmt_age(age, jat(l, "since_age_s")), jstr(l, "reason"),
	    jstr(l, "reason_text"));
	say("admin", "%s, carrier %s, %lld changes of state", jstr(l, "admin"),
	    jtrue(l, "carrier") ? "on" : "off", (long long)jint(l, "flaps"));
	detail_address(l, "address", "far");
	detail_address(l, "address6", "far6");
	detail_virtual(jat(l, "virtual.own"), "ours");
	detail_virtual(jat(l, "virtual.far"), "the peer's");
	say("device", "mtu %lld metric %lld netns %s, %s worker %lld", (long long)jint(l, "mtu"),
	    (long long)jint(l, "metric"), jnull(l, "netns") ? "(underlay)" : jstr(l, "netns"),
	    jstr(l, "backend"), (long long)jint(l, "worker"));
	if (!jnull(l, "backend_why"))
		say("backend", "%s was asked for: %s", jstr(l, "backend_configured"), jstr(l, "backend_why"));
	if (strcmp(jstr(l, "offload.asked"), "off"))
		say("offload", "%s%s%s was asked for%s%s", jstr(l, "offload.asked"), jnull(l, "offload.device") ? "" : " on ",
		    jnull(l, "offload.device") ? "" : jstr(l, "offload.device"), jnull(l, "offload.why") ? "" : ": ",
		    jnull(l, "offload.why") ? "" : jstr(l, "offload.why"));
	if (!jnull(l, "mss_clamp"))
		say("mss-clamp", "IPv4 %lld, IPv6 %lld", (long long)jint(l, "mss_clamp.v4"),
		    (long long)jint(l, "mss_clamp.v6"));
	detail_path(l);
	if (jint(l, "path.mtu") > jint(l, "wire_mtu"))
		say("input", "envelopes over %lld bytes by sockets", (long long)jint(l, "wire_mtu"));
	detail_liveness(jat(l, "liveness"));
	detail_keepalive(l);
	if (!jnull(l, "cover.per_s"))
		say("cover", "%lld dummies a second, %lld sent", (long long)jint(l, "cover.per_s"),
		    (long long)jint(l, "cover.sent"));
	say("traffic", "rx %s in %lld packets, tx %s in %lld", fmt_bytes(rx, jnum(l, "rx.bytes")),
	    (long long)jint(l, "rx.packets"), fmt_bytes(tx, jnum(l, "tx.bytes")),
	    (long long)jint(l, "tx.packets"));
	say("trouble", "lost on the wire %lld, dropped in %lld out %lld",
	    (long long)jint(l, "lost"), (long long)jint(l, "drops_in_total"),
	    (long long)jint(l, "drops_out_total"));
	json_array_foreach (jat(l, "sas"), i, s)
		detail_sa(s);
}

static int show_all(struct ctl *c, json_t *r, json_t *before)
{
	struct table *t;
	json_t *l;
	size_t i;

	daemon_notes(r);
	if (c->verbose) {
		json_array_foreach (jat(r, "links"), i, l)
			detail(c, l);
		return 0;
	}
	if (!json_array_size(jat(r, "links"))) {
		printf("no links yet: ipsecctl link add, or [link] sections in %s and ipsecctl "
		       "apply\n",
		       jstr(r, "daemon.conf_file"));
		return 0;
	}
	t = table_new((const char *[]){"LINK", "STATE", "WHY", "PEER", "PATH", ">RX", ">TX",
				       ">LOSS", "?>SEEN", "?>MTU", "?BACKEND", NULL});
	json_array_foreach (jat(r, "links"), i, l)
		link_row(t, l, before ? by_name(before, "name", jstr(l, "name")) : NULL);
	table_print(t, stdout, c->color);
	return 0;
}

static int show_link(struct ctl *c, json_t *r, json_t *before)
{
	detail(c, json_array_get(jat(r, "links"), 0));
	return 0;
}

/* The state of one link is an answer in itself: 4 = it exists and is down. */
static int show_code(struct ctl *c, int argc, char **argv)
{
	json_t *r = ctl_request(c, "show", name_arg(argc, argv)),
	       *l = json_array_get(jat(r, "links"), 0);
	int code;

	if (!ctl_finish(c, r, &code))
		code = show_link(c, r, NULL);
	if (!code && strcmp(jstr(l, "state"), "up"))
		code = EXIT_IS_DOWN;
	json_decref(r);
	return code;
}

int cmd_show(struct ctl *c, int argc, char **argv)
{
	if (argc && rounds(c) == 1)
		return show_code(c, argc, argv);
	return watch(c, "show", argc, argv, argc ? show_link : show_all);
}

int cmd_link_list(struct ctl *c, int argc, char **argv)
{
	c->verb = ctl_find("show", NULL);
	memset(c->opts, 0, sizeof c->opts);
	return cmd_show(c, argc, argv);
}

/* ---- sa list ---- */

static json_t *flat_sas(struct ctl *c, json_t *r)
{
	json_t *out = ctl_ok(c), *a = json_array(), *l, *s;
	size_t i, k;

	json_array_foreach (jat(r, "links"), i, l) {
		json_array_foreach (jat(l, "sas"), k, s) {
			json_t *o = json_object();

			json_object_set(o, "link", jat(l, "name"));
			json_object_set(o, "peer", jat(l, "peer"));
			json_object_update(o, s);
			json_array_append_new(a, o);
		}
	}
	json_object_set_new(out, "sas", a);
	return out;
}

static const char *sa_state(json_t *s)
{
	return !jnull(s, "refused")	    ? "refused"
	       : !jnull(s, "life.ended")    ? "ended"
	       : !jtrue(s, "live")	    ? "idle"
	       : !jnull(s, "life.soft_reached") ? "renew"
	       : jtrue(s, "in_use")	    ? "in-use"
					    : "ready";
}

static void sa_row(struct table *t, json_t *s)
{
	char seq[24], packets[FMT_LEN], bytes[FMT_LEN], used[FMT_LEN];
	const char *state = sa_state(s);

	snprintf(seq, sizeof seq, "%lld", (long long)jint(s, "seq"));
	table_row(t, (const char *[]){
			     jstr(s, "link"), jstr(s, "dir"), jstr(s, "spi"), jstr(s, "alg"), state,
			     seq, fmt_count(packets, jnum(s, "packets")),
			     fmt_bytes(bytes, jnum(s, "bytes")),
			     fmt_age(used, jat(s, "last_used_age_s")), jstr(s, "fingerprint")});
	table_color(t, 4, strcmp(state, "refused") && strcmp(state, "ended") ? NULL : RED);
}

static void sa_more(json_t *s)
{
	char nic[200];
	json_t *sel;
	size_t i;

	json_array_foreach (jat(s, "for"), i, sel)
		printf("%s %s %s for %s\n", jstr(s, "link"), jstr(s, "dir"), jstr(s, "spi"), json_string_value(sel));
	if (sa_offload(s, nic, sizeof nic))
		printf("%s %s %s offload %s\n", jstr(s, "link"), jstr(s, "dir"), jstr(s, "spi"), nic);
}

int cmd_sa_list(struct ctl *c, int argc, char **argv)
{
	json_t *r = ctl_request(c, "show", name_arg(argc, argv)), *flat, *s;
	struct table *t;
	size_t i;
	int code;

	flat = jtrue(r, "ok") ? flat_sas(c, r) : json_incref(r);
	if (!ctl_finish(c, flat, &code)) {
		t = table_new((const char *[]){"LINK", "DIR", "SPI", "ALG", "STATE", ">SEQ",
					       ">PACKETS", ">BYTES", ">USED", "?KEY-FINGERPRINT",
					       NULL});
		json_array_foreach (jat(flat, "sas"), i, s)
			sa_row(t, s);
		table_print(t, stdout, c->color);
		json_array_foreach (jat(flat, "sas"), i, s)
			sa_more(s);
		json_array_foreach (jat(flat, "sas"), i, s)
			if (!jnull(s, "refused"))
				printf("%s %s refused: %s\n", jstr(s, "link"), jstr(s, "dir"),
				       jstr(s, "refused"));
			else if (!jnull(s, "life.ended") || !jnull(s, "life.soft_reached"))
				printf("%s %s %s: its %s lifetime is over (%s)\n", jstr(s, "link"), jstr(s, "dir"),
				       jstr(s, "spi"), jnull(s, "life.ended") ? "soft" : "hard",
				       jstr(s, jnull(s, "life.ended") ? "life.soft_reached" : "life.ended"));
	}
	json_decref(flat);
	json_decref(r);
	return code;
}

/* ---- path list ---- */

static void path_row(struct table *t, json_t *l, json_t *p)
{
	char remote[80], mark[24] = "-", table[24] = "-", mtu[24], share[16] = "-", sent[FMT_LEN];
	bool ok = !strcmp(jstr(p, "state"), "ok");

	snprintf(remote, sizeof remote, "%.64s%s",
		 jnull(p, "remote") ? jtrue(p, "any") ? "any" : jstr(p, "host") : jstr(p, "remote"),
		 jtrue(p, "learned") ? " *" : "");
	if (jint(p, "fwmark"))
		snprintf(mark, sizeof mark, "0x%llx", (long long)jint(p, "fwmark"));
	if (jint(p, "table"))
		snprintf(table, sizeof table, "%lld", (long long)jint(p, "table"));
	if (jtrue(p, "in_use"))
		snprintf(share, sizeof share, "%.0f%%", 100 * jnum(p, "share"));
	snprintf(mtu, sizeof mtu, "%lld", (long long)jint(p, "mtu"));
	fmt_count(sent, jint(p, "envelopes"));
	table_row(t, (const char *[]){jstr(l, "name"), jtrue(p, "in_use") ? ">" : " ", remote,
				      jstr(p, "encap"), jstr(p, "dev"), jstr(p, "src"), mtu, mark,
				      table, jnull(p, "error") ? "ok" : jstr(p, "error"), jstr(p, "state"), share, sent});
	table_color(t, 9, jnull(p, "error") ? NULL : RED);
	table_color(t, 10, ok ? GREEN : RED);
}

int cmd_path_list(struct ctl *c, int argc, char **argv)
{
	json_t *r = ctl_request(c, "path-list", name_arg(argc, argv)), *l, *p;
	struct table *t;
	size_t i, k;
	int code;

	if (!ctl_finish(c, r, &code)) {
		t = table_new((const char *[]){"LINK", " ", "REMOTE", "ENCAP", "DEV", "SRC", ">MTU",
					       "?>FWMARK", "?>TABLE", "ROUTE", "STATE", ">SHARE", ">SENT", NULL});
		json_array_foreach (jat(r, "links"), i, l) {
			json_array_foreach (jat(l, "paths"), k, p)
				path_row(t, l, p);
		}
		table_print(t, stdout, c->color);
	}
	json_decref(r);
	return code;
}

/* ---- drops ---- */

static void drop_rows(struct table *t, const char *link, const char *dir, json_t *drops,
		      json_t *old, json_t *texts)
{
	const char *reason;
	char count[24];
	json_t *v;

	json_object_foreach (drops, reason, v) {
		json_int_t n =
			json_integer_value(v) - json_integer_value(json_object_get(old, reason));

		if (!n || !strcmp(reason, "dummy"))
			continue;
		snprintf(count, sizeof count, "%lld%s", (long long)n, old ? "/s" : "");
		table_row(t, (const char *[]){link, dir, reason, count, jstr(texts, reason)});
	}
}

static void say_balance(json_t *r)
{
	json_t *k;
	size_t i;

	json_array_foreach (jat(r, "conservation"), i, k) {
		if (jint(k, "out.in_funnel"))
			printf("%s out: %lld on the way to a worker, or lost before it "
			       "(queue-full)\n",
			       jstr(k, "link"), (long long)jint(k, "out.in_funnel"));
		if (jint(k, "out.balance") || jint(k, "in.balance"))
			printf("%s: unexplained out %lld in %lld (should be 0 when nothing "
			       "moves)\n",
			       jstr(k, "link"), (long long)jint(k, "out.balance"),
			       (long long)jint(k, "in.balance"));
	}
}

static int show_drops(struct ctl *c, json_t *r, json_t *before)
{
	struct table *t =
		table_new((const char *[]){"LINK", "DIR", "REASON", ">COUNT", "?MEANING", NULL});
	json_t *l, *old, *texts = jat(r, "reasons");
	size_t i;

	json_array_foreach (jat(r, "links"), i, l) {
		old = before ? by_name(before, "name", jstr(l, "name")) : NULL;
		drop_rows(t, jstr(l, "name"), "out", jat(l, "out"), jat(old, "out"), texts);
		drop_rows(t, jstr(l, "name"), "in", jat(l, "in"), jat(old, "in"), texts);
	}
	drop_rows(t, "-", "-", jat(r, "global.drops"), before ? jat(before, "global.drops") : NULL,
		  texts);
	table_print(t, stdout, c->color);
	say_balance(r);
	return 0;
}

int cmd_drops(struct ctl *c, int argc, char **argv)
{
	return watch(c, "drops", argc, argv, show_drops);
}

/* ---- why ---- */

static void why_human(json_t *r)
{
	json_t *l = jat(r, "link"), *s = jat(r, "sa"), *p = jat(r, "path");

	if (jtrue(r, "route.found"))
		printf("route    dev %s via %s%s\n", jstr(r, "route.dev"), jstr(r, "route.via"),
		       jtrue(r, "route.forwarded") ? "  (as a forwarded packet)" : "");
	else
		printf("route    none: %s\n", jstr(r, "route.error"));
	if (json_is_object(l))
		printf("link     %s peer %s: %s, %s\n", jstr(l, "name"), jstr(l, "peer"),
		       jstr(l, "state"), jstr(l, "reason_text"));
	if (json_is_object(s))
		printf("sa       out %s %s%s seq %lld\n", jstr(s, "spi"), jstr(s, "alg"),
		       jtrue(s, "esn") ? " esn" : "", (long long)jint(s, "seq"));
	if (json_is_object(p))
		printf("path     %s encap %s fwmark 0x%llx -> %s src %s mtu %lld%s%s\n",
		       jstr(p, "remote"), jstr(p, "encap"), (long long)jint(p, "fwmark"),
		       jstr(p, "dev"), jstr(p, "src"), (long long)jint(p, "mtu"),
		       jnull(p, "error") ? "" : "  ", jnull(p, "error") ? "" : jstr(p, "error"));
	if (json_is_object(l))
		printf("size     up to %lld bytes fit%s\n", (long long)jint(r, "size.link_mtu"),
		       jnull(r, "size.bytes")  ? ""
		       : jtrue(r, "size.fits") ? ", this one does"
					       : ", this one does not");
	printf("verdict  %s%s%s%s: %s\n", jstr(r, "verdict"), jnull(r, "reason") ? "" : " (",
	       jnull(r, "reason") ? "" : jstr(r, "reason"), jnull(r, "reason") ? "" : ")",
	       jstr(r, "text"));
}

int cmd_why(struct ctl *c, int argc, char **argv)
{
	json_t *args = json_pack("{s:s, s:s}", "src", argv[0], "dst", argv[1]), *r;
	int code;

	if (!args)
		return ctl_usage(c, "why wants two addresses");
	if (argc > 2)
		json_object_set_new(args, "proto", json_string(argv[2]));
	if (argc > 4)
		json_object_set_new(args, "dport", json_integer(atoi(argv[4])));
	if (ctl_opt(c, "--size"))
		json_object_set_new(args, "size", json_integer(atoi(ctl_opt(c, "--size"))));
	if (ctl_opt(c, "--from"))
		json_object_set_new(args, "netns", json_string(ctl_opt(c, "--from")));
	r = ctl_request(c, "why", args);
	if (!ctl_finish(c, r, &code))
		why_human(r);
	json_decref(r);
	return code;
}

/* ---- mtu ---- */

/* Where the path's own number comes from; the least counts. */
static void mtu_path_human(json_t *p)
{
	printf("  path %s%s\n    device %s %lld", jstr(p, "remote"), jtrue(p, "in_use") ? ", in use" : "",
	       jstr(p, "dev"), (long long)jint(p, "dev_mtu"));
	if (!jnull(p, "route_mtu"))
		printf(", its route %lld", (long long)jint(p, "route_mtu"));
	if (!jnull(p, "told_mtu"))
		printf(", a router said %lld (forgotten in %lld s)", (long long)jint(p, "told_mtu"),
		       (long long)jint(p, "told_for_s"));
	printf(": %lld\n    - ip %lld", (long long)jint(p, "mtu"), (long long)jint(p, "outer_ip"));
	if (jint(p, "udp"))
		printf(" - udp %lld", (long long)jint(p, "udp"));
	if (jint(p, "spare"))
		printf(" - spare %lld", (long long)jint(p, "spare"));
	printf(" - esp %lld - iv %lld - icv %lld, down to a multiple of %lld, - trailer %lld\n",
	       (long long)jint(p, "esp"), (long long)jint(p, "iv"), (long long)jint(p, "icv"),
	       (long long)jint(p, "align"), (long long)jint(p, "trailer"));
	printf("    leaves %lld for the inner packet\n", (long long)jint(p, "inner_max"));
}

static void mtu_human(json_t *r)
{
	long long mtu = jint(r, "mtu");
	json_t *p;
	size_t i;

	printf("%s peer %s: mtu %lld (%s)\n", jstr(r, "name"), jstr(r, "peer"), mtu,
	       jnull(r, "configured") ? "auto" : "configured");
	json_array_foreach (jat(r, "paths"), i, p) {
		if (jnull(p, "inner_max")) {
			printf("  path %s\n    its mtu is not known yet\n", jstr(p, "remote"));
			continue;
		}
		mtu_path_human(p);
		if (jtrue(p, "in_use") && jint(p, "inner_max") < mtu)
			printf("    less than the mtu of %lld%s: longer envelopes are fragmented\n", mtu,
			       jnull(r, "configured") ? ", the least that IPv6 may have" : "");
	}
}

int cmd_mtu(struct ctl *c, int argc, char **argv)
{
	json_t *r = ctl_request(c, "mtu", name_arg(argc, argv));
	int code;

	if (!ctl_finish(c, r, &code))
		mtu_human(r);
	json_decref(r);
	return code;
}

/* ---- perf ---- */

/* Where the time goes, per packet, all workers together. */
static void perf_stages_human(json_t *workers)
{
	const char *cols[] = {"STAGE", ">PACKETS", ">PER CALL", ">CLOCKS", ">NS", NULL};
	char text[4][FMT_LEN];
	json_t *first = jat(json_array_get(workers, 0), "stages"), *w, *s;
	struct table *t = table_new(cols);
	size_t i, k;

	json_array_foreach (first, i, s) {
		double packets = 0, calls = 0, clocks_all = 0, ns = 0;

		json_array_foreach (workers, k, w) {
			json_t *x = json_array_get(jat(w, "stages"), i);

			packets += (double)jint(x, "packets");
			calls += (double)jint(x, "calls");
			clocks_all += (double)jint(x, "clocks");
			ns += (double)jint(x, "ns");
		}
		snprintf(text[0], FMT_LEN, "%.0f", packets);
		snprintf(text[1], FMT_LEN, "%.1f", calls ? packets / calls : 0);
		snprintf(text[2], FMT_LEN, "%.0f", packets ? clocks_all / packets : 0);
		snprintf(text[3], FMT_LEN, "%.0f", packets ? ns / packets : 0);
		table_row(t, (const char *[]){jstr(s, "stage"), text[0], text[1], text[2], text[3]});
	}
	printf("\n");
	table_print(t, stdout, false);
}

/* One column per worker; what does not fit the table is in --json. */
static void perf_human(json_t *r)
{
	const char *cols[TABLE_COLS + 1] = {"WORKER"}, *cells[TABLE_COLS], *key;
	char head[TABLE_COLS][16], text[TABLE_COLS][FMT_LEN];
	json_t *workers = jat(r, "workers"), *v;
	size_t n = MIN(json_array_size(workers), (size_t)TABLE_COLS - 1);
	struct table *t;

	printf("crypto %s\n", jstr(r, "crypto"));
	for (size_t i = 0; i < n; i++) {
		snprintf(head[i], sizeof head[i], ">%d",
			 (int)jint(json_array_get(workers, i), "worker"));
		cols[i + 1] = head[i];
	}
	t = table_new(cols);
	json_object_foreach (json_array_get(workers, 0), key, v) {
		if (!strcmp(key, "worker") || json_is_array(v))
			continue;
		cells[0] = key;
		for (size_t i = 0; i < n; i++) {
			json_t *x = jat(json_array_get(workers, i), key);

			if (json_is_number(x))
				snprintf(text[i], FMT_LEN, json_is_real(x) ? "%.3f" : "%.0f",
					 json_number_value(x));
			else
				strcpy(text[i], json_is_null(x)   ? "-"
						: json_is_true(x) ? "yes"
								  : "no");
			cells[i + 1] = text[i];
		}
		table_row(t, cells);
	}
	table_print(t, stdout, false);
	perf_stages_human(workers);
}

int cmd_perf(struct ctl *c, int argc, char **argv)
{
	json_t *r = ctl_request(c, "perf", NULL);
	int code;

	if (!ctl_finish(c, r, &code))
		perf_human(r);
	json_decref(r);
	return code;
}

/* ---- monitor ---- */

static bool is_frame(const char *key)
{
	return !strcmp(key, "schema") || !strcmp(key, "ok") || !strcmp(key, "time") ||
	       !strcmp(key, "event") || !strcmp(key, "reason_text");
}

static void event_human(json_t *e)
{
	const char *key, *when = jstr(e, "time");
	json_t *v;

	printf("%.12s %s", strlen(when) > 11 ? when + 11 : when, jstr(e, "event"));
	json_object_foreach (e, key, v) {
		const char *text = json_string_value(v);
		char *k, *s;

		if (is_frame(key) || json_is_null(v))
			continue;
		k = visible(strdup(key));
		s = visible(text ? strdup(*text ? text : "-") :
				   json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(6)));
		printf(" %s=%s", k ? k : "?", s ? s : "?");
		free(k);
		free(s);
	}
	putchar('\n');
}

int cmd_monitor(struct ctl *c, int argc, char **argv)
{
	json_t *e = ctl_request(c, "monitor", NULL);
	bool ok = jtrue(e, "ok");
	int code = 0;

	if (!ok)
		ctl_finish(c, e, &code);
	for (; ok && e; e = ctl_next(c)) {
		if (c->json) {
			json_dumpf(e, stdout, JSON_COMPACT | JSON_REAL_PRECISION(12));
			putchar('\n');
		} else {
			event_human(e);
		}
		fflush(stdout);
		json_decref(e);
	}
	if (!ok) {
		json_decref(e);
		return code;
	}
	return ctl_fail(c, EXIT_NO_DAEMON, "daemon-gone", NULL,
			"ipsecd has ended, or we read too slowly");
}
