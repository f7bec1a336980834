// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * ipsecctl: the parser, the words for people, what is generated from the table of verbs, and every
 * verb run for real against the fake daemon (verbs_test --serve), each in a process of its own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <ftw.h>
#include <signal.h>
#include <sys/wait.h>
#define main ctl_main
#include "../../user/ipsecctl.c"
#undef main
#include "../../user/ctl_verbs.c"
#include "../../user/ctl_lib.c"
#include "../../user/ctl_fmt.c"
#include "../../user/ctl_gen.c"
#include "../../user/cmd_show.c"
#include "../../user/cmd_link.c"
#include "../../user/cmd_static.c"
#include "../../user/cmd_ike.c"
#include "../../user/cmd_metrics.c"
#include "../../user/cmd_doctor.c"

static char server[PATHS_LEN]; /* beside this binary */
static char dir[] = "/tmp/espwire-cmd-XXXXXX";
static pid_t server_pid;
static char out[1 << 22], errs[1 << 16]; /* of the last run */

/* ---- running it ---- */

static void read_back(FILE *f, char *buf, size_t len)
{
	size_t n;

	rewind(f);
	n = fread(buf, 1, len - 1, f);
	buf[n] = 0;
	fclose(f);
}

static int run_argv(char **argv, const char *input)
{
	FILE *fo = tmpfile(), *fe = tmpfile(), *fi = tmpfile();
	int status, argc = 0;
	pid_t pid;

	while (argv[argc])
		argc++;
	fputs(input, fi);
	fflush(fi);
	rewind(fi);
	fflush(stdout);
	pid = fork();
	if (!pid) {
		dup2(fileno(fi), 0);
		dup2(fileno(fo), 1);
		dup2(fileno(fe), 2);
		alarm(30);
		status = ctl_main(argc, argv);
		fflush(NULL);
		_exit(status);
	}
	waitpid(pid, &status, 0);
	fclose(fi);
	read_back(fo, out, sizeof out);
	read_back(fe, errs, sizeof errs);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* Words are cut at blanks; ~ stands for a blank inside a word. */
static int run_in(const char *line, const char *input)
{
	char copy[4 * PATHS_LEN], *argv[64] = {(char *)"ipsecctl"}, *save = NULL;
	int n = 1;

	snprintf(copy, sizeof copy, "%s", line);
	for (char *w = strtok_r(copy, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
		for (char *p = w; *p; p++)
			if (*p == '~')
				*p = ' ';
		argv[n++] = w;
	}
	return run_argv(argv, input);
}

static int run(const char *line)
{
	return run_in(line, "");
}

/* Against the fake daemon. */
static int ask(const char *line)
{
	char full[4 * PATHS_LEN];

	snprintf(full, sizeof full, "-i fake --socket %s/ctl.sock %s", dir, line);
	return run(full);
}

static json_t *json_out(void)
{
	json_t *j = json_loads(out, 0, NULL);

	if (!j)
		fail_msg("not JSON: %.200s%s", out, errs);
	assert_int_equal(jint(j, "schema"), 1);
	return j;
}

static void put_file(const char *name, const char *text)
{
	char path[PATHS_LEN];
	FILE *f;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

/* ---- parsing ---- */

static void command_lines(void **state)
{
	static const struct {
		const char *line, *verb, *sub, *instance;
		int err, argc;
		bool json;
	} rows[] = {
		{"", "show", NULL, "", 0, 0, false},
		{"-j", "show", NULL, "", 0, 0, true},
		{"show", "show", NULL, "", 0, 0, false},
		{"show ipsec1", "show", NULL, "", 0, 1, false},
		{"show config", "show", "config", "", 0, 0, false},
		{"-i west --json show config", "show", "config", "west", 0, 0, true},
		{"show --json config", "show", "config", "", 0, 0, true},
		{"--instance=west sa list", "sa", "list", "west", 0, 0, false},
		{"link add ipsec1 peer x -j", "link", "add", "", 0, 3, true},
		{"apply --confirm 60 f", "apply", NULL, "", 0, 1, false},
		{"apply --confirm=60", "apply", NULL, "", 0, 0, false},
		{"-nf f", "check", NULL, "", 0, 1, false},
		{"-i x -nf f", "check", NULL, "x", 0, 1, false},
		{"-sa", "sa", "list", "", 0, 0, false},
		{"-m", "monitor", NULL, "", 0, 0, false},
		{"check -", "check", NULL, "", 0, 1, false},
		{"check -- -nf", "check", NULL, "", 0, 1, false},
		{"frob", NULL, NULL, "", EXIT_USAGE, 0, false},
		{"link", NULL, NULL, "", EXIT_USAGE, 0, false},
		{"link frob", NULL, NULL, "", EXIT_USAGE, 0, false},
		{"show a b", NULL, NULL, "", EXIT_USAGE, 0, false},
		{"why 10.0.0.1", NULL, NULL, "", EXIT_USAGE, 0, false},
		{"apply --confirm", NULL, NULL, "", EXIT_USAGE, 0, false},
		{"show --confirm 3", NULL, NULL, "", EXIT_USAGE, 0, false},
		{"-i ../etc show", NULL, NULL, "", EXIT_USAGE, 0, false},
		{"-i", NULL, NULL, "", EXIT_USAGE, 0, false},
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(rows); i++) {
		char copy[128], *argv[16], **pp = argv, *save = NULL;
		struct ctl c = {.fd = -1, .json = false};
		int argc = 0, err;

		strcpy(copy, rows[i].line);
		for (char *w = strtok_r(copy, " ", &save); w; w = strtok_r(NULL, " ", &save))
			argv[argc++] = w;
		argv[argc] = NULL;
		err = ctl_parse(&c, &argc, &pp);
		if (err != rows[i].err)
			fail_msg("\"%s\": %d", rows[i].line, err);
		if (err)
			continue;
		if (strcmp(c.verb->name, rows[i].verb) ||
		    (rows[i].sub && strcmp(c.verb->sub, rows[i].sub)) || argc != rows[i].argc ||
		    c.json != rows[i].json || strcmp(c.instance, rows[i].instance))
			fail_msg("\"%s\": %s, %d words, json %d, instance %s", rows[i].line,
				 c.verb->name, argc, c.json, c.instance);
	}
}

static void options_of_a_verb(void **state)
{
	char *argv[] = {(char *)"apply", (char *)"--confirm", (char *)"60", (char *)"file", NULL},
	     **pp = argv;
	struct ctl c = {.fd = -1};
	int argc = 4;

	assert_int_equal(ctl_parse(&c, &argc, &pp), 0);
	assert_string_equal(ctl_opt(&c, "--confirm"), "60");
	assert_null(ctl_opt(&c, "--watch"));
	assert_string_equal(pp[0], "file");
}

/* ---- words for people ---- */

static void numbers(void **state)
{
	static const struct {
		const char *(*fn)(char *buf, double n);
		double n;
		const char *want;
	} rows[] = {
		{fmt_bytes, 0, "0"},
		{fmt_bytes, 1023, "1023"},
		{fmt_bytes, 1024, "1.0K"},
		{fmt_bytes, 10189, "10K"},
		{fmt_bytes, 1536 * 1024., "1.5M"},
		{fmt_bytes, 1e18, "888P"},
		{fmt_count, 999, "999"},
		{fmt_count, 81233, "81K"},
		{fmt_count, 1500, "1.5K"},
		{fmt_rate, 0, "0/s"},
		{fmt_rate, 150e6, "1.2G/s"},
		{fmt_rate, 125, "1.0K/s"},
	};
	static const struct {
		double s;
		const char *want;
	} ages[] = {{0, "0.0s"},     {0.44, "0.4s"},   {41, "41s"},      {125, "2m05s"},
		    {3600, "1h00m"}, {11520, "3h12m"}, {352800, "4d02h"}};
	char buf[FMT_LEN];

	for (unsigned int i = 0; i < ARRAY_SIZE(rows); i++)
		assert_string_equal(rows[i].fn(buf, rows[i].n), rows[i].want);
	for (unsigned int i = 0; i < ARRAY_SIZE(ages); i++) {
		json_t *j = json_real(ages[i].s);

		assert_string_equal(fmt_age(buf, j), ages[i].want);
		json_decref(j);
	}
	assert_string_equal(fmt_age(buf, NULL), "never");
}

static void print_table(struct table *t, char *buf, size_t len)
{
	FILE *f = tmpfile();

	table_print(t, f, false);
	read_back(f, buf, len);
}

static void tables_line_up(void **state)
{
	struct table *t = table_new((const char *[]){"A", ">N", "LAST", NULL});
	char buf[512];

	table_row(t, (const char *[]){"longer", "1", "x"});
	table_row(t, (const char *[]){"b", "1000", NULL});
	print_table(t, buf, sizeof buf);
	assert_string_equal(buf, "A          N  LAST\nlonger     1  x\nb       1000  -\n");
}

static void narrow_terminals_lose_the_optional_columns(void **state)
{
	struct table *t = table_new((const char *[]){"KEEP", "?FIRST", "ALSO", "?SECOND", NULL});
	char buf[512];

	table_row(t, (const char *[]){"1", "2", "3", "4"});
	fit(t, 20);
	print_table(t, buf, sizeof buf);
	assert_string_equal(buf, "KEEP  FIRST  ALSO\n1     2      3\n");
}

static void many_rows(void **state)
{
	struct table *t = table_new((const char *[]){"N", NULL});
	char n[16];

	for (int i = 0; i < 1000; i++) {
		snprintf(n, sizeof n, "%d", i);
		table_row(t, (const char *[]){n});
	}
	print_table(t, out, sizeof out);
	assert_non_null(strstr(out, "\n0\n1\n"));
	assert_non_null(strstr(out, "\n998\n999\n"));
}

static void no_control_bytes_reach_the_terminal(void **state)
{
	json_t *o = json_pack("{s:s, s:{s:s}}", "a", "x\033[2Jy\nz", "b", "c", "");

	assert_string_equal(jstr(o, "a"), "x?[2Jy?z");
	assert_string_equal(jstr(o, "b.c"), "-");
	assert_string_equal(jstr(o, "b.d.e"), "-");
	json_decref(o);
}

/* ---- what is generated ---- */

static void table_of_verbs_is_complete(void **state)
{
	for (const struct ctl_verb *v = ctl_verbs; v->name; v++) {
		assert_non_null(v->fn);
		assert_true(strlen(v->help) > 5 && v->help[strlen(v->help) - 1] != '.');
		assert_true(v->max == -1 || v->max >= v->min);
		assert_ptr_equal(ctl_find(v->name, v->sub), v);
		for (int i = 0; v->opts && v->opts[i].name; i++)
			assert_true(i < CTL_OPTS_MAX);
	}
}

static void generated_files_are_current(void **state)
{
	static const struct {
		const char *line, *file;
	} rows[] = {
		{"man", "docs/man/ipsecctl.8"},
		{"completion bash", "completion/ipsecctl.bash"},
		{"completion zsh", "completion/ipsecctl.zsh"},
		{"completion fish", "completion/ipsecctl.fish"},
	};
	static char text[1 << 16];

	for (unsigned int i = 0; i < ARRAY_SIZE(rows); i++) {
		FILE *f = fopen(rows[i].file, "re");

		assert_int_equal(run(rows[i].line), 0);
		if (!f)
			fail_msg("%s: run the tests from the top of the tree", rows[i].file);
		read_back(f, text, sizeof text);
		if (strcmp(text, out))
			fail_msg("%s is old: ipsecctl %s > %s", rows[i].file, rows[i].line,
				 rows[i].file);
	}
}

static void help_names_every_verb(void **state)
{
	char want[64];

	assert_int_equal(run("help"), 0);
	for (const struct ctl_verb *v = ctl_verbs; v->name; v++) {
		snprintf(want, sizeof want, "\n  %s%s%s", v->name, v->sub ? " " : "",
			 v->sub ? v->sub : "");
		assert_true(v->hidden == !strstr(out, want));
	}
	assert_int_equal(run("static pair --help"), 0);
	assert_non_null(strstr(out, "--alg ALG"));
}

/* ---- against a daemon ---- */

static void exit_codes(void **state)
{
	static const struct {
		const char *line;
		int code;
		const char *says; /* stdout or stderr */
	} rows[] = {
		{"", 0, "no-answer"},
		{"show east", 0, "state      up"},
		{"show ipsec2", EXIT_IS_DOWN, "no-answer"},
		{"show ipsec:99", EXIT_NOT_FOUND, "no link ipsec:99"},
		{"sa list", 0, "0xc2690000"},
		{"path list", 0, "198.51.100.1"},
		{"drops", 0, "hop limit is 0"},
		{"show --watch --count 2", 0, "0/s"},
		{"show config", 0, "[link ipsec1]"},
		{"mtu east", 0, "leaves 1438"},
		{"perf", 0, "xsk_rx"},
		{"metrics", 0, "ipsec_link_up{link=\"ipsec2\",peer=\"peer2\"} 0"},
		{"doctor", EXIT_RUNTIME, "no-answer"},
		{"why 10.1.0.1 10.2.0.1", 0, "verdict  encrypt"},
		{"why 10.1.0.1 fd00::1", EXIT_USAGE, "one family"},
		{"link add eth0 peer x", EXIT_USAGE, "ipsecN"},
		{"link add ipsec7 peer", EXIT_USAGE, "wants a value"},
		{"link add ipsec7 colour red", EXIT_USAGE, "colour"},
		{"link add ipsec1 peer x", EXIT_RUNTIME, "exists already"},
		{"link del ipsec99", EXIT_NOT_FOUND, "no link"},
		{"apply /nonexistent", EXIT_NOT_FOUND, "No such file"},
		{"apply --confirm soon", EXIT_USAGE, "seconds"},
		{"confirm", EXIT_NOT_FOUND, "waiting"},
		{"release", EXIT_POLICY, "--yes"},
		{"-i fake --socket /nonexistent/s show", EXIT_NO_DAEMON, "no ipsecd answers"},
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(rows); i++) {
		int code = ask(rows[i].line);

		if (code != rows[i].code ||
		    (!strstr(out, rows[i].says) && !strstr(errs, rows[i].says)))
			fail_msg("ipsecctl %s: exit %d\n%s%s", rows[i].line, code, out, errs);
	}
}

/* One JSON object, whatever happens, and the exit code that it names. */
static void every_verb_speaks_json(void **state)
{
	static const char *const lines[] = {
		"show",
		"show east",
		"show nosuch",
		"show config",
		"show config --all",
		"link list",
		"sa list",
		"sa list nosuch",
		"path list",
		"check /nonexistent",
		"check -",
		"diff /nonexistent",
		"drops",
		"drops east",
		"why 10.1.0.1 10.2.0.1",
		"why x y",
		"mtu east",
		"mtu nosuch",
		"maps",
		"metrics",
		"perf",
		"release",
		"doctor",
		"report",
		"version",
		"version --probe",
		"confirm",
		"rollback",
		"link up east",
		"link down east",
		"link set east mtu 12",
		"link del nosuch",
		"static init /nonexistent",
		"static pair a a",
		"frob",
		"show a b",
		"apply -",
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(lines); i++) {
		char line[128];
		json_t *j;
		int code;

		snprintf(line, sizeof line, "--json %s", lines[i]);
		code = ask(line);
		j = json_out();
		if (!jtrue(j, "ok") && code != jint(j, "exit"))
			fail_msg("%s: exit %d, says %d", lines[i], code, (int)jint(j, "exit"));
		if (!jtrue(j, "ok"))
			assert_true(json_is_string(jat(j, "code")) &&
				    json_is_string(jat(j, "error")) && jat(j, "hint"));
		json_decref(j);
	}
	assert_int_equal(ask("--json -i fake --socket /nonexistent/s show"), EXIT_NO_DAEMON);
	json_decref(json_out());
}

/* What is handed through unparsed is what would have been printed. */
static void relayed_answers_are_whole(void **state)
{
	json_t *a, *b;

	assert_int_equal(ask("--json drops"), 0);
	assert_true(out[strlen(out) - 1] == '\n' && strchr(out, '\n') == out + strlen(out) - 1);
	a = json_out();
	assert_int_equal(json_array_size(jat(a, "links")), 3);
	assert_int_equal(ask("--json drops --count 2"), 0);
	b = json_loads(strchr(out, '\n'), 0, NULL);
	assert_true(json_equal(a, b));
	json_decref(a);
	json_decref(b);
	assert_int_equal(ask("--json drops nosuch"), EXIT_NOT_FOUND);
	a = json_out();
	assert_string_equal(jstr(a, "code"), "no-such-link");
	json_decref(a);
}

static void saved_link_survives(void **state)
{
	char path[PATHS_LEN];
	struct conf c;

	assert_int_equal(ask("link add ipsec12 peer north address 10.12.0.1~peer~10.12.0.2 "
			     "path=198.51.100.99~encap~udp sa=file:/k "
			     "--save"),
			 0);
	snprintf(path, sizeof path, "%s/fake.d/ipsec12.conf", dir);
	assert_int_equal(conf_load(&c, path, stderr), 0);
	assert_int_equal(c.n_links, 1);
	assert_string_equal(c.links[0].peer, "north");
	assert_int_equal(c.links[0].paths[0].encap, ENCAP_UDP);
	conf_free(&c);
	assert_int_equal(ask("link set north metric 77 --save"), 0);
	assert_int_equal(conf_load(&c, path, stderr), 0);
	assert_int_equal(c.links[0].metric, 77);
	conf_free(&c);
	assert_int_equal(ask("link del north --save"), 0);
	assert_int_equal(access(path, F_OK), -1);
}

static void link_comes_and_goes(void **state)
{
	assert_int_equal(ask("link add ipsec:13 peer south address 10.13.0.1~peer~10.13.0.2 path "
			     "198.51.100.98 sa file:/k13"),
			 0);
	assert_int_equal(ask("link down south"), 0);
	assert_int_equal(ask("show south"), EXIT_IS_DOWN);
	assert_int_equal(ask("link up south"), 0);
	assert_int_equal(ask("show south"), 0);
	assert_int_equal(ask("link del south"), 0);
	assert_int_equal(ask("show south"), EXIT_NOT_FOUND);
}

static void configuration_is_checked_line_by_line(void **state)
{
	char line[PATHS_LEN + 16];
	json_t *j;

	put_file("bad.conf", "[link ipsec1]\npeer = x\nmtu = 12\ncolour = red\n");
	snprintf(line, sizeof line, "-nf %s/bad.conf", dir);
	assert_int_equal(ask(line), EXIT_RUNTIME);
	assert_non_null(strstr(errs, "bad.conf:3:"));
	assert_non_null(strstr(errs, "bad.conf:4:"));
	snprintf(line, sizeof line, "--json check %s/bad.conf", dir);
	assert_int_equal(ask(line), EXIT_RUNTIME);
	j = json_out();
	assert_true(json_array_size(jat(j, "errors")) >= 2);
	json_decref(j);
	snprintf(line, sizeof line, "apply %s/bad.conf", dir);
	assert_int_equal(ask(line), EXIT_RUNTIME);
	assert_non_null(strstr(errs, "nothing was changed"));
}

static void standard_input_is_a_file_too(void **state)
{
	FILE *f = tmpfile();

	assert_int_equal(run_in("check -", ""), 0);
	assert_int_equal(run_in("check -", "[link ipsec1]\nmtu = 3\n"), EXIT_RUNTIME);
	assert_non_null(strstr(errs, "stdin:2:"));
	assert_int_equal(run_in("check -", "\xff\xfe"), EXIT_RUNTIME);
	assert_int_equal(fwrite("[link\0]", 1, 7, f), 7);
	rewind(f);
	assert_null(slurp(f)); /* what is behind the zero would be lost */
	fclose(f);
}

static void monitor_prints_events(void **state)
{
	char sock[PATHS_LEN], buf[512] = "";
	int fd[2];
	size_t n = 0;
	pid_t pid;

	snprintf(sock, sizeof sock, "%s/ctl.sock", dir);
	assert_int_equal(pipe(fd), 0);
	pid = fork();
	if (!pid) {
		char *argv[] = {
			(char *)"ipsecctl", (char *)"-i", (char *)"fake", (char *)"--socket", sock,
			(char *)"-m",       NULL};

		dup2(fd[1], 1);
		alarm(20);
		_exit(ctl_main(6, argv));
	}
	close(fd[1]);
	while (n < sizeof buf - 1 && !strstr(buf, "link-state")) {
		ssize_t k = read(fd[0], buf + n, sizeof buf - 1 - n);

		if (k <= 0)
			break;
		n += k;
		buf[n] = 0;
	}
	kill(pid, SIGTERM);
	waitpid(pid, NULL, 0);
	close(fd[0]);
	assert_non_null(strstr(buf, "monitor-start"));
	assert_non_null(strstr(buf, "link-state link=ipsec1 state=down reason=no-answer"));
}

/* ---- key files ---- */

static void assert_no_key_of(const char *file)
{
	char line[512];
	FILE *f = fopen(file, "re");

	assert_non_null(f);
	while (fgets(line, sizeof line, f)) {
		char *hex = strchr(line, '=');

		if (strncmp(line, "key", 3) && strncmp(line, "auth-key", 8) &&
		    strncmp(line, "salt", 4))
			continue;
		hex += strspn(hex, "= ");
		hex[strcspn(hex, " \n")] = 0;
		assert_true(strlen(hex) >= 8);
		assert_null(strstr(out, hex));
		assert_null(strstr(errs, hex));
	}
	fclose(f);
}

static void a_pair_is_ready_in_two_minutes(void **state)
{
	char line[2 * PATHS_LEN], file[PATHS_LEN];
	struct stat st;
	json_t *j;

	snprintf(line, sizeof line, "static pair west east -o %s/pair --alg chacha20-poly1305",
		 dir);
	assert_int_equal(run(line), 0);
	snprintf(file, sizeof file, "%s/pair/west/east.sa", dir);
	assert_non_null(strstr(out, file));
	assert_non_null(strstr(out, "labs"));
	assert_no_key_of(file);
	assert_int_equal(stat(file, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(run(line), EXIT_RUNTIME); /* nothing is overwritten */
	assert_no_key_of(file);

	snprintf(line, sizeof line, "--json -i nosuch static init --state %s/state %s", dir, file);
	assert_int_equal(run(line), 0);
	assert_no_key_of(file);
	j = json_out();
	assert_true(jtrue(json_array_get(jat(j, "files"), 0), "made"));
	json_decref(j);
	assert_int_equal(run(line), 0); /* again: kept */
	j = json_out();
	assert_false(jtrue(json_array_get(jat(j, "files"), 0), "made"));
	json_decref(j);
	assert_int_equal(run("static pair a b --alg rot13"), EXIT_USAGE);
	assert_non_null(strstr(errs, "one of aes-gcm-128, "));
	assert_int_equal(run("static pair a b --alg aes-cbc-128"), EXIT_USAGE);
	assert_non_null(strstr(errs, "no integrity (RFC 8221 4): use aes-gcm-128"));
	assert_int_equal(run("static pair a b --mode beet"), EXIT_USAGE);
	assert_non_null(strstr(errs, "--mode beet: tunnel or transport"));
	snprintf(line, sizeof line, "static pair a b -o %s/tr --mode transport", dir);
	assert_int_equal(run(line), 0);
	assert_non_null(strstr(out, "address = ADDRESS-OF-a peer ADDRESS-OF-b"));
	assert_non_null(strstr(out, "path    = ADDRESS-OF-b encap udp fwmark 0x51 table 51"));
	snprintf(line, sizeof line, "static pair a b -o %s/cbc --alg aes-cbc-256-hmac-sha2-512", dir);
	assert_int_equal(run(line), 0);
	snprintf(file, sizeof file, "%s/cbc/a/b.sa", dir);
	assert_no_key_of(file);
	assert_int_equal(run("static pair a ../b"), EXIT_USAGE);
}

/* ---- bed ---- */

static int wait_for_socket(void)
{
	char sock[PATHS_LEN];

	snprintf(sock, sizeof sock, "%s/ctl.sock", dir);
	for (int i = 0; i < 100; i++) {
		if (!access(sock, F_OK))
			return 0;
		usleep(50000);
	}
	return -1;
}

static int start(void **state)
{
	if (!mkdtemp(dir))
		return -1;
	server_pid = fork();
	if (!server_pid) {
		execl(server, server, "--serve", dir, "3", NULL);
		_exit(127);
	}
	if (wait_for_socket())
		print_error("%s --serve does not start: build the unit tests together\n", server);
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	return remove(path);
}

static int finish(void **state)
{
	if (server_pid > 0) {
		kill(server_pid, SIGTERM);
		waitpid(server_pid, NULL, 0);
	}
	return nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(command_lines),
		cmocka_unit_test(options_of_a_verb),
		cmocka_unit_test(numbers),
		cmocka_unit_test(tables_line_up),
		cmocka_unit_test(narrow_terminals_lose_the_optional_columns),
		cmocka_unit_test(many_rows),
		cmocka_unit_test(no_control_bytes_reach_the_terminal),
		cmocka_unit_test(table_of_verbs_is_complete),
		cmocka_unit_test(generated_files_are_current),
		cmocka_unit_test(help_names_every_verb),
		cmocka_unit_test(exit_codes),
		cmocka_unit_test(standard_input_is_a_file_too),
		cmocka_unit_test(monitor_prints_events),
		cmocka_unit_test(relayed_answers_are_whole),
		cmocka_unit_test(saved_link_survives),
		cmocka_unit_test(link_comes_and_goes),
		cmocka_unit_test(configuration_is_checked_line_by_line),
		cmocka_unit_test(a_pair_is_ready_in_two_minutes),
		cmocka_unit_test(
			every_verb_speaks_json), /* last: it ends with an empty configuration */
	};
	char *slash;

	snprintf(server, sizeof server, "%s", argv[0]);
	slash = strrchr(server, '/');
	snprintf(slash ? slash + 1 : server, 16, "verbs_test");
	unsetenv("IPSEC_INSTANCE");
	setenv("NO_COLOR", "1", 1);
	return cmocka_run_group_tests_name("cmd", tests, start, finish);
}
