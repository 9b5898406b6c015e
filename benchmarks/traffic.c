/*
 * Many connections and a steady pace, which wrk and redis-benchmark do not offer.
 *
 *   traffic serve ADDRESS FIRST_PORT PORTS REQUEST_BYTES
 *       answers every REQUEST_BYTES received with as many bytes, until its standard input ends
 *   traffic load ADDRESS FIRST_PORT PORTS CONNECTIONS RATE REQUEST ANSWER_BYTES
 *       opens CONNECTIONS, spread over the ports, then sends RATE requests a second in all, one
 *       connection after the other, until its standard input ends
 *
 * Both print "ready"; a line on the standard input of `load` is answered with a line of
 * "sent answered late": late are requests that were not sent since every connection was busy.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define EVENTS 512
#define BUFFER 65536

struct peer {
	int fd;
	int listening;
	int pending; /* bytes still expected of a request (server) or an answer (client) */
};

static char buffer[BUFFER];

static void die(const char *what)
{
	fprintf(stderr, "traffic: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void check(int result, const char *what)
{
	if (result < 0)
		die(what);
}

static double now_s(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static struct sockaddr_in address(const char *text, int port)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
	if (inet_pton(AF_INET, text, &to.sin_addr) != 1) {
		fprintf(stderr, "traffic: %s is not an IPv4 address\n", text);
		exit(2);
	}
	return to;
}

static void watch(int epoll, struct peer *p)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = p};
	check(epoll_ctl(epoll, EPOLL_CTL_ADD, p->fd, &event), "epoll_ctl");
}

static struct peer *new_peer(int fd, int listening)
{
	struct peer *p = calloc(1, sizeof(*p));
	if (!p)
		die("memory");
	p->fd = fd;
	p->listening = listening;
	return p;
}

static void unblock(int fd)
{
	check(fcntl(fd, F_SETFL, O_NONBLOCK), "fcntl");
}

static void ready(void)
{
	printf("ready\n");
	fflush(stdout);
}

/* The peer of an event, NULL for the standard input. */
static int open_epoll(void)
{
	struct epoll_event input = {.events = EPOLLIN, .data.ptr = NULL};
	int epoll = epoll_create1(0);
	check(epoll, "epoll_create1");
	check(epoll_ctl(epoll, EPOLL_CTL_ADD, 0, &input), "standard input");
	return epoll;
}

static void send_all(int fd, const char *data, int bytes)
{
	/* requests and answers are far smaller than a socket's buffer */
	int sent = send(fd, data, bytes, MSG_NOSIGNAL);
	if (sent != bytes && errno != ECONNRESET && errno != EPIPE)
		die("send");
}

static void accept_all(int epoll, struct peer *from, int request_bytes)
{
	int one = 1, fd;
	while ((fd = accept4(from->fd, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
		struct peer *p = new_peer(fd, 0);
		p->pending = request_bytes;
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		watch(epoll, p);
	}
	if (errno != EAGAIN && errno != ECONNABORTED)
		die("accept");
}

static void answer(struct peer *p, int request_bytes)
{
	int got = recv(p->fd, buffer, sizeof(buffer), 0);
	if (got <= 0) {
		if (got < 0 && errno == EAGAIN)
			return;
		close(p->fd);
		free(p);
		return;
	}
	for (p->pending -= got; p->pending <= 0; p->pending += request_bytes)
		send_all(p->fd, buffer, request_bytes);
}

static int serve(const char *host, int first, int ports, int request_bytes)
{
	struct epoll_event events[EVENTS];
	int epoll = open_epoll(), one = 1;

	for (int i = 0; i < ports; i++) {
		struct sockaddr_in at = address(host, first + i);
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		check(fd, "socket");
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		check(bind(fd, (struct sockaddr *)&at, sizeof(at)), "bind");
		check(listen(fd, 4096), "listen");
		watch(epoll, new_peer(fd, 1));
	}
	ready();
	for (;;) {
		int n = epoll_wait(epoll, events, EVENTS, -1);
		for (int i = 0; i < n; i++) {
			struct peer *p = events[i].data.ptr;
			if (!p) {
				if (read(0, buffer, sizeof(buffer)) <= 0)
					return 0;
			} else if (p->listening) {
				accept_all(epoll, p, request_bytes);
			} else {
				answer(p, request_bytes);
			}
		}
	}
}

static struct peer **connect_all(int epoll, const char *host, int first, int ports, int number)
{
	struct linger at_once = {.l_onoff = 1, .l_linger = 0}; /* leaves no TIME_WAIT behind */
	struct peer **all = calloc(number, sizeof(*all));
	int one = 1;

	if (!all)
		die("memory");
	for (int i = 0; i < number; i++) {
		struct sockaddr_in to = address(host, first + i % ports);
		int fd = socket(AF_INET, SOCK_STREAM, 0);
		check(fd, "socket");
		check(connect(fd, (struct sockaddr *)&to, sizeof(to)), "connect");
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
		unblock(fd);
		all[i] = new_peer(fd, 0);
		watch(epoll, all[i]);
	}
	return all;
}

static int load(const char *host, int first, int ports, int number, double rate,
		const char *request, int answer_bytes)
{
	struct epoll_event events[EVENTS];
	int epoll = open_epoll(), request_bytes = strlen(request), next = 0;
	struct peer **all = connect_all(epoll, host, first, ports, number);
	long sent = 0, answered = 0, late = 0;
	double began;

	ready();
	began = now_s();
	for (;;) {
		/* so slow a pace that a millisecond is nothing needs no millisecond's care */
		int n = epoll_wait(epoll, events, EVENTS, rate < 100 ? 10 : 1);
		for (int i = 0; i < n; i++) {
			struct peer *p = events[i].data.ptr;
			int got;
			if (!p) {
				if (read(0, buffer, sizeof(buffer)) <= 0)
					return 0;
				printf("%ld %ld %ld\n", sent, answered, late);
				fflush(stdout);
				continue;
			}
			got = recv(p->fd, buffer, sizeof(buffer), 0);
			if (got < 0 && errno == EAGAIN)
				continue;
			if (got <= 0) {
				fprintf(stderr, "traffic: the server closed a connection\n");
				return 1;
			}
			p->pending -= got;
			if (p->pending == 0)
				answered++;
		}
		for (long due = (now_s() - began) * rate - sent - late; due > 0; due--) {
			struct peer *p = all[next];
			next = (next + 1) % number;
			if (p->pending > 0) {
				late++;
				continue;
			}
			p->pending = answer_bytes;
			send_all(p->fd, request, request_bytes);
			sent++;
		}
	}
}

int main(int argc, char **argv)
{
	struct rlimit files;

	/* never outlives the benchmark, however that ends */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	if (argc == 6 && !strcmp(argv[1], "serve"))
		return serve(argv[2], atoi(argv[3]), atoi(argv[4]), atoi(argv[5]));
	if (argc == 9 && !strcmp(argv[1], "load"))
		return load(argv[2], atoi(argv[3]), atoi(argv[4]), atoi(argv[5]), atof(argv[6]),
			    argv[7], atoi(argv[8]));
	fprintf(stderr, "usage: see the head of traffic.c\n");
	return 2;
}
