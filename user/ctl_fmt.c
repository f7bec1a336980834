/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Numbers, ages and tables for people. Pure, apart from asking how wide the terminal is. */
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "ctl.h"

static const char *scaled(char *buf, double n, double base, const char *unit)
{
	static const char *const prefix[] = {"", "K", "M", "G", "T", "P", "E"};
	unsigned int i = 0;

	while (n >= base && i < ARRAY_SIZE(prefix) - 1) {
		n /= base;
		i++;
	}
	/* 9.96 would print as 10.0: two digits are enough there */
	snprintf(buf, FMT_LEN, i && n < 9.95 ? "%.1f%s%s" : "%.0f%s%s", n, prefix[i], unit);
	return buf;
}

const char *fmt_bytes(char *buf, double n)
{
	return scaled(buf, n, 1024, "");
}

const char *fmt_rate(char *buf, double bytes_s)
{
	return scaled(buf, bytes_s * 8, 1000, "/s");
}

const char *fmt_count(char *buf, double n)
{
	return scaled(buf, n, 1000, "");
}

const char *fmt_age(char *buf, json_t *seconds)
{
	double s = json_number_value(seconds);
	long n = (long)s;

	if (!json_is_number(seconds))
		strcpy(buf, "never");
	else if (s < 9.95)
		snprintf(buf, FMT_LEN, "%.1fs", s);
	else if (s < 90)
		snprintf(buf, FMT_LEN, "%lds", n);
	else if (s < 3600)
		snprintf(buf, FMT_LEN, "%ldm%02lds", n / 60, n % 60);
	else if (s < 86400)
		snprintf(buf, FMT_LEN, "%ldh%02ldm", n / 3600, n / 60 % 60);
	else
		snprintf(buf, FMT_LEN, "%ldd%02ldh", n / 86400, n / 3600 % 24);
	return buf;
}

/* ---- tables ---- */

struct row {
	char *cell[TABLE_COLS];
	const char *sgr[TABLE_COLS];
};

struct table {
	const char *name[TABLE_COLS];
	bool right[TABLE_COLS], optional[TABLE_COLS], hidden[TABLE_COLS];
	unsigned int width[TABLE_COLS], n_cols;
	struct row *rows;
	unsigned int n_rows;
};

struct table *table_new(const char *const *cols)
{
	struct table *t = calloc(1, sizeof *t);

	for (; t && *cols && t->n_cols < TABLE_COLS; cols++, t->n_cols++) {
		const char *s = *cols;

		for (; *s == '>' || *s == '?'; s++)
			*(*s == '>' ? &t->right[t->n_cols] : &t->optional[t->n_cols]) = true;
		t->name[t->n_cols] = s;
		t->width[t->n_cols] = strlen(s);
	}
	return t;
}

void table_row(struct table *t, const char *const *cells)
{
	struct row *r;

	if ((t->n_rows & (t->n_rows + 1)) == 0 ||
	    !t->rows) { /* 0, 1, 3, 7, ... rows: room for as many again */
		r = realloc(t->rows, (2 * t->n_rows + 2) * sizeof *r);
		if (!r)
			return;
		t->rows = r;
	}
	r = &t->rows[t->n_rows++];
	memset(r, 0, sizeof *r);
	for (unsigned int i = 0; i < t->n_cols; i++) {
		r->cell[i] = visible(strdup(cells[i] ? cells[i] : "-"));
		t->width[i] = MAX(t->width[i], strlen(r->cell[i] ? r->cell[i] : ""));
	}
}

void table_color(struct table *t, int col, const char *sgr)
{
	if (t->n_rows)
		t->rows[t->n_rows - 1].sgr[col] = sgr;
}

static unsigned int terminal_width(FILE *out)
{
	const char *env = getenv("COLUMNS");
	struct winsize ws;

	if (!isatty(fileno(out)))
		return 0;
	if (env && atoi(env) > 0)
		return atoi(env);
	return ioctl(fileno(out), TIOCGWINSZ, &ws) || !ws.ws_col ? 80 : ws.ws_col;
}

static unsigned int total_width(const struct table *t)
{
	unsigned int sum = 0;

	for (unsigned int i = 0; i < t->n_cols; i++)
		sum += t->hidden[i] ? 0 : t->width[i] + 2;
	return sum ? sum - 2 : 0;
}

/* A pipe gets every column: a script must not depend on somebody's window. */
static void fit(struct table *t, unsigned int width)
{
	for (unsigned int i = t->n_cols; width && i-- && total_width(t) > width;)
		t->hidden[i] = t->optional[i];
}

static void print_row(const struct table *t, FILE *out, const char *const *cells,
		      const char *const *sgr)
{
	int last = t->n_cols - 1;

	while (last > 0 && t->hidden[last])
		last--;
	for (int i = 0; i <= last; i++) {
		const char *color = sgr ? sgr[i] : NULL;
		int width = t->width[i];

		if (t->hidden[i])
			continue;
		if (i == last && !t->right[i])
			width = 0; /* no trailing blanks */
		fprintf(out, "%s%*s%s%s", color ? color : "", t->right[i] ? width : -width,
			cells[i], color ? "\033[0m" : "", i < last ? "  " : "\n");
	}
}

void table_print(struct table *t, FILE *out, bool color)
{
	fit(t, terminal_width(out));
	print_row(t, out, t->name, NULL);
	for (unsigned int r = 0; r < t->n_rows; r++) {
		print_row(t, out, (const char *const *)t->rows[r].cell,
			  color ? t->rows[r].sgr : NULL);
		for (unsigned int i = 0; i < t->n_cols; i++)
			free(t->rows[r].cell[i]);
	}
	free(t->rows);
	free(t);
}
