/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>
#include "audit.h"
#include "links.h"
#include "load.h"
#include "log.h"

static const char *const reasons[AUDIT_MAX] = {
#define X(name, str, text) [DROP_##name] = str,
	IPSEC_DROPS(X)
#undef X
	[AUDIT_ECN + ECN_ECT0_ON_NOT_ECT] = "ecn-ect0-on-not-ect",
	[AUDIT_ECN + ECN_ECT1_ON_NOT_ECT] = "ecn-ect1-on-not-ect",
	[AUDIT_ECN + ECN_ECT0_ON_ECT1] = "ecn-ect0-on-ect1",
	[AUDIT_ECN + ECN_ECT1_ON_CE] = "ecn-ect1-on-ce",
	[AUDIT_FRAGMENT] = "esp-fragment",
};

/* ---- worker ---- */

void audit_note(struct audit *a, uint64_t now, const struct audit_rec *r)
{
	struct audit_slot *s;

	if (!a->on || r->what >= AUDIT_MAX)
		return;
	s = &a->slot[r->out][r->what];
	s->seen++;
	if (now < s->next_ns || atomic_load_explicit(&s->full, memory_order_acquire))
		return;
	s->next_ns = now + AUDIT_GAP_NS;
	s->rec = *r;
	s->rec.packets = s->seen;
	s->seen = 0;
	atomic_store_explicit(&s->full, true, memory_order_release);
}

/* ---- control ---- */

bool audit_take(struct audit *a, bool out, unsigned int what, struct audit_rec *r)
{
	struct audit_slot *s = &a->slot[out][what];

	if (!atomic_load_explicit(&s->full, memory_order_acquire))
		return false;
	*r = s->rec;
	atomic_store_explicit(&s->full, false, memory_order_release);
	return true;
}

static const char *shown(const struct in6_addr *a, char *buf)
{
	return IN6_IS_ADDR_UNSPECIFIED(a) ? "?" : addr_str(a, buf);
}

static json_t *address(const struct in6_addr *a)
{
	char buf[INET6_ADDRSTRLEN];

	return IN6_IS_ADDR_UNSPECIFIED(a) ? json_null() : json_string(addr_str(a, buf));
}

static void event(struct daemon *d, const struct audit_rec *r, const char *link, const char *spi)
{
	json_t *ev;

	if (!d->on_event)
		return;
	ev = json_pack("{s:i s:s s:s s:s s:s? s:s s:I s:o s:o s:o s:I}", "schema", 1, "event", "audit", "reason",
		       reasons[r->what], "dir", r->out ? "out" : "in", "link", link, "spi", spi, "seq",
		       (json_int_t)r->seq, "src", address(&r->src), "dst", address(&r->dst), "flow",
		       r->flow ? json_integer(r->flow) : json_null(), "packets", (json_int_t)r->packets);
	if (!ev)
		return;
	d->on_event(d, ev);
	json_decref(ev);
}

static void tell(struct daemon *d, const struct audit_rec *r)
{
	const struct link *l = r->link < d->max_links ? d->links[r->link] : NULL;
	char src[INET6_ADDRSTRLEN], dst[INET6_ADDRSTRLEN], spi[16], flow[24] = "";

	snprintf(spi, sizeof spi, "0x%08x", r->spi);
	if (r->flow)
		snprintf(flow, sizeof flow, " flow 0x%05x", r->flow);
	log_info("audit: %s %s: %s spi %s seq %llu from %s to %s%s, %llu packet%s", l ? l->conf.name : "no link",
		 r->out ? "out" : "in", reasons[r->what], spi, (unsigned long long)r->seq, shown(&r->src, src),
		 shown(&r->dst, dst), flow, (unsigned long long)r->packets, r->packets == 1 ? "" : "s");
	event(d, r, l ? l->conf.name : NULL, spi);
}

static struct in6_addr from_key(const struct addr_key *k)
{
	struct in6_addr a;

	memcpy(&a, k->word, sizeof a);
	return a;
}

/* What wire_in saw; it notes one per kind and second, and how many there were the counters know. */
static void tell_wire(struct daemon *d, unsigned int kind)
{
	static const uint8_t what[NOTE_MAX] = {[NOTE_NO_SA] = DROP_NO_SA, [NOTE_FRAGMENT] = AUDIT_FRAGMENT};
	const struct wire_note *n = load_wire_note(d->load) + kind;
	uint64_t ns = __atomic_load_n(&n->ns, __ATOMIC_ACQUIRE);
	struct audit_rec r;

	if (ns <= d->start_ns || ns == d->noted_ns[kind])
		return;
	d->noted_ns[kind] = ns;
	r = (struct audit_rec){.packets = 1, .seq = ntohl(n->seq_be), .spi = ntohl(n->spi_be), .flow = n->flow,
			       .link = AUDIT_NO_LINK, .what = what[kind], .src = from_key(&n->src),
			       .dst = from_key(&n->dst)};
	tell(d, &r);
}

void audit_tick(struct daemon *d)
{
	struct audit_rec r;

	if (!d->conf.audit)
		return;
	for (unsigned int i = 0; i < d->n_workers; i++)
		for (unsigned int what = 0; what < AUDIT_MAX; what++)
			for (int out = 0; out < 2; out++)
				if (audit_take(worker_audit(d->workers[i]), out, what, &r))
					tell(d, &r);
	for (unsigned int kind = 0; kind < NOTE_MAX; kind++)
		tell_wire(d, kind);
}
