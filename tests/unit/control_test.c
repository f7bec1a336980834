// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * control: the socket itself. Client and server share this thread: the client's end is non-blocking
 * and the event loop turns between its steps, so every order of bytes can be played.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <sys/wait.h>
#include "fake_daemon.h"

struct bed {
	struct daemon *d;
	struct control *c;
	sd_event *ev;
	char dir[32];
};

static int bed_new(void **state, unsigned int n_links)
{
	struct bed *b = calloc(1, sizeof *b);

	strcpy(b->dir, "/tmp/espwire-ctl-XXXXXX");
	assert_non_null(mkdtemp(b->dir));
	assert_true(sd_event_new(&b->ev) >= 0);
	b->d = fake_daemon(b->dir, n_links + 4, n_links);
	assert_int_equal(control_listen(&b->c, b->d), 0);
	assert_int_equal(control_serve(b->c, b->ev), 0);
	*state = b;
	return 0;
}

static int setup(void **state)
{
	return bed_new(state, 2);
}

static int setup_big(void **state)
{
	return bed_new(state, 3000);
}

static int teardown(void **state)
{
	struct bed *b = *state;

	control_close(b->c);
	fake_daemon_free(b->d);
	sd_event_unref(b->ev);
	rmdir(b->dir);
	free(b);
	return 0;
}

static void turn(struct bed *b, unsigned int n)
{
	while (n--)
		sd_event_run(b->ev, 0);
}

static struct sockaddr_un sock_addr(struct bed *b)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};

	snprintf(sa.sun_path, sizeof sa.sun_path, "%s/ctl.sock", b->dir);
	return sa;
}

static int dial(struct bed *b)
{
	struct sockaddr_un sa = sock_addr(b);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

	assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof sa), 0);
	turn(b, 3);
	return fd;
}

static void say(struct bed *b, int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
	turn(b, 3);
}

/* One line, or NULL when the server hung up or says nothing more. */
static json_t *hear(struct bed *b, int fd)
{
	size_t len = 0, cap = 1 << 25;
	char *buf = malloc(cap);
	json_t *j = NULL;
	unsigned int idle = 0;

	while (idle < 50 && (!len || buf[len - 1] != '\n')) {
		ssize_t n = recv(fd, buf + len, 1, 0);

		/* byte by byte up to the newline, but fast through the middle */
		if (n == 1 && buf[len] != '\n') {
			ssize_t peek = recv(fd, buf + len + 1, cap - len - 1, MSG_PEEK);
			char *nl = peek > 0 ? memchr(buf + len + 1, '\n', peek) : NULL;

			if (peek > 0)
				n += recv(fd, buf + len + 1, nl ? nl - (buf + len) : peek, 0);
		}
		if (n == 0)
			break;
		idle = n < 0 ? idle + 1 : 0;
		len += n > 0 ? n : 0;
		turn(b, 1);
	}
	if (len && buf[len - 1] == '\n')
		j = json_loadb(buf, len, 0, NULL);
	free(buf);
	return j;
}

static bool hung_up(struct bed *b, int fd)
{
	char c;

	turn(b, 10);
	return recv(fd, &c, 1, MSG_PEEK) == 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
}

static void assert_instance(struct bed *b, int fd)
{
	json_t *j = hear(b, fd);

	assert_non_null(j);
	assert_string_equal(json_string_value(json_object_get(j, "instance")), "fake");
	json_decref(j);
}

#define SHOW "{\"schema\":1,\"verb\":\"show\"}"

static void request_may_come_in_pieces(void **state)
{
	struct bed *b = *state;
	int fd = dial(b);
	char one[2] = "";

	for (const char *p = SHOW; *p; p++) {
		one[0] = *p;
		say(b, fd, one);
	}
	assert_false(hung_up(b, fd));
	say(b, fd, "\n");
	assert_instance(b, fd);
	close(fd);
}

static void requests_may_come_together(void **state)
{
	struct bed *b = *state;
	int fd = dial(b);

	say(b, fd, SHOW "\n" SHOW "\n\n" SHOW "\n");
	for (int i = 0; i < 3; i++)
		assert_instance(b, fd);
	close(fd);
}

static void nonsense_is_answered_and_the_next_request_works(void **state)
{
	struct bed *b = *state;
	int fd = dial(b);
	json_t *j;

	say(b, fd, "GET / HTTP/1.1\n" SHOW "\n");
	j = hear(b, fd);
	assert_string_equal(json_string_value(json_object_get(j, "code")), "bad-json");
	json_decref(j);
	assert_instance(b, fd);
	close(fd);
}

static void endless_line_is_refused(void **state)
{
	struct bed *b = *state;
	int fd = dial(b);
	static char chunk[65536];
	size_t sent = 0;
	json_t *j;

	memset(chunk, ' ', sizeof chunk);
	for (int i = 0; i < 1000; i++) {
		ssize_t n = send(fd, chunk, sizeof chunk, MSG_NOSIGNAL);

		if (n < 0 && errno != EAGAIN)
			break;
		sent += n > 0 ? n : 0;
		turn(b, 2);
	}
	assert_true(sent >= CONTROL_LINE_MAX && sent < CONTROL_LINE_MAX + (1 << 20));
	j = hear(b, fd);
	assert_string_equal(json_string_value(json_object_get(j, "code")), "request-too-long");
	json_decref(j);
	assert_true(hung_up(b, fd));
	assert_int_equal(b->c->n_clients, 0);
	close(fd);
}

static void long_reply_arrives_whole(void **state)
{
	struct bed *b = *state;
	int fd = dial(b), other = dial(b), waiting = 0;
	json_t *j;

	say(b, fd, SHOW "\n" SHOW "\n");
	/* one answer waits in memory, however many questions were sent */
	for (struct client *cl = b->c->clients; cl; cl = cl->next) {
		char *nl = unsent(cl) ? memchr(cl->out, '\n', cl->out_len) : NULL;

		waiting += nl != NULL;
		assert_true(!nl || nl == cl->out + cl->out_len - 1);
	}
	assert_int_equal(waiting, 1);
	say(b, other, "{\"schema\":1,\"verb\":\"show\",\"args\":{\"name\":\"east\"}}\n");
	assert_instance(b, other); /* nobody waits for the one that does not read yet */
	for (int i = 0; i < 2; i++) {
		j = hear(b, fd);
		assert_int_equal(json_array_size(json_object_get(j, "links")), 3000);
		json_decref(j);
	}
	close(fd);
	close(other);
}

static void event(struct bed *b, int i)
{
	json_t *e = json_pack("{s:s, s:i}", "event", "link-state", "n", i);

	control_event(b->c, e);
	assert_int_equal(json_object_size(e), 2); /* steals and changes nothing */
	json_decref(e);
}

static void monitors_hear_events(void **state)
{
	struct bed *b = *state;
	int fd = dial(b), silent = dial(b);
	json_t *j;

	event(b, 0);
	say(b, fd, "{\"schema\":1,\"verb\":\"monitor\"}\n");
	j = hear(b, fd);
	assert_string_equal(json_string_value(json_object_get(j, "event")), "monitor-start");
	json_decref(j);
	for (int i = 1; i < 4; i++)
		event(b, i);
	for (int i = 1; i < 4; i++) {
		j = hear(b, fd);
		assert_int_equal(json_integer_value(json_object_get(j, "n")), i);
		assert_int_equal(json_integer_value(json_object_get(j, "schema")), 1);
		assert_int_equal(strlen(json_string_value(json_object_get(j, "time"))),
				 strlen("2026-01-01T00:00:00.000Z"));
		json_decref(j);
	}
	say(b, fd, SHOW "\n"); /* not a dialogue any more */
	assert_null(hear(b, fd));
	assert_null(hear(b, silent));
	close(fd);
	close(silent);
}

static void slow_monitor_is_dropped_not_waited_for(void **state)
{
	struct bed *b = *state;
	int fd = dial(b), good = dial(b), heard = 0;

	say(b, fd, "{\"schema\":1,\"verb\":\"monitor\"}\n");
	say(b, good, "{\"schema\":1,\"verb\":\"monitor\"}\n");
	json_decref(hear(b, good));
	for (int i = 0; i < 40000; i++) {
		event(b, i);
		if (i % 64)
			continue;
		turn(b, 1);
		while (b->c->n_clients && recv(good, (char[65536]){0}, 65536, 0) > 0)
			heard++;
	}
	turn(b, 20);
	assert_int_equal(b->c->n_clients, 1);
	assert_true(heard > 10);
	assert_false(hung_up(b, good));
	close(fd);
	close(good);
	turn(b, 5);
	assert_int_equal(b->c->n_clients, 0);
}

static void clients_come_and_go(void **state)
{
	struct bed *b = *state;
	int fd[CONTROL_CLIENTS_MAX], extra;

	for (int i = 0; i < CONTROL_CLIENTS_MAX; i++)
		fd[i] = dial(b);
	assert_int_equal(b->c->n_clients, CONTROL_CLIENTS_MAX);
	extra = dial(b);
	assert_true(hung_up(b, extra));
	close(extra);
	say(b, fd[0], "{\"schema\":1,"); /* dies in the middle */
	for (int i = 0; i < CONTROL_CLIENTS_MAX; i++)
		close(fd[i]);
	turn(b, 2 * CONTROL_CLIENTS_MAX);
	assert_int_equal(b->c->n_clients, 0);
	extra = dial(b);
	say(b, extra, SHOW "\n");
	assert_instance(b, extra);
	close(extra);
}

static void client_that_leaves_before_its_answer(void **state)
{
	struct bed *b = *state;
	int fd = dial(b);

	assert_true(send(fd, SHOW "\n", strlen(SHOW "\n"), 0) > 0);
	close(fd);
	turn(b, 20);
	assert_int_equal(b->c->n_clients, 0);
}

static void second_daemon_is_refused(void **state)
{
	struct bed *b = *state;
	struct control *c = NULL;
	struct stat before, after;
	struct sockaddr_un sa = sock_addr(b);

	assert_int_equal(stat(sa.sun_path, &before), 0);
	assert_int_equal(before.st_mode & 0777, 0660);
	assert_int_equal(control_listen(&c, b->d), -EADDRINUSE);
	assert_int_equal(stat(sa.sun_path, &after), 0);
	assert_true(before.st_ino == after.st_ino);
}

static void socket_of_a_dead_daemon_is_replaced(void **state)
{
	struct bed *b = *state;
	struct sockaddr_un sa = sock_addr(b);
	int fd, stale;

	control_close(b->c);
	assert_int_equal(access(sa.sun_path, F_OK), -1);
	stale = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(stale, (struct sockaddr *)&sa, sizeof sa), 0);
	close(stale);
	assert_int_equal(control_listen(&b->c, b->d), 0);
	assert_int_equal(control_serve(b->c, b->ev), 0);
	fd = dial(b);
	say(b, fd, SHOW "\n");
	assert_instance(b, fd);
	close(fd);
}

/* Who asks is what the kernel says, not what the request says. */
static void rights_come_from_the_peer(void **state)
{
	static const char line[] =
		"{\"schema\":1,\"verb\":\"link-down\",\"uid\":0,\"args\":{\"name\":"
		"\"east\",\"root\":true}}\n";
	struct bed *b = *state;
	struct sockaddr_un sa = sock_addr(b);
	char buf[1024] = "";
	int fd[2], status;
	pid_t pid;

	if (geteuid()) {
		print_message("needs root to become somebody else\n");
		skip();
	}
	assert_int_equal(chmod(b->dir, 0755), 0);
	assert_int_equal(chmod(sa.sun_path, 0666), 0);
	assert_int_equal(pipe(fd), 0);
	pid = fork();
	if (!pid) {
		int s = socket(AF_UNIX, SOCK_STREAM, 0);

		alarm(10);
		if (setuid(65534) || connect(s, (struct sockaddr *)&sa, sizeof sa) ||
		    write(s, line, sizeof line - 1) < 0)
			_exit(1);
		_exit(write(fd[1], buf, recv(s, buf, sizeof buf, 0)) <= 0);
	}
	for (int i = 0; i < 500 && waitpid(pid, &status, WNOHANG) != pid; i++)
		sd_event_run(b->ev, 10000);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	assert_true(read(fd[0], buf, sizeof buf - 1) > 0);
	assert_non_null(strstr(buf, "not-permitted"));
	assert_true(links_by_name(b->d, "east")->admin_up);
	close(fd[0]);
	close(fd[1]);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(request_may_come_in_pieces),
		T(requests_may_come_together),
		T(nonsense_is_answered_and_the_next_request_works),
		T(endless_line_is_refused),
		cmocka_unit_test_setup_teardown(long_reply_arrives_whole, setup_big, teardown),
		T(monitors_hear_events),
		T(slow_monitor_is_dropped_not_waited_for),
		T(clients_come_and_go),
		T(client_that_leaves_before_its_answer),
		T(second_daemon_is_refused),
		T(socket_of_a_dead_daemon_is_replaced),
		T(rights_come_from_the_peer),
	};

	log_max = LOGL_ERR;
	return cmocka_run_group_tests_name("control", tests, NULL, NULL);
}
