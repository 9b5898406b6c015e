/* SPDX-License-Identifier: GPL-2.0-only */
/* What is kept of connections, groups and listeners; bpf/layout.py mirrors what user space reads. */
#ifndef TAILRACE_RECORDS_H
#define TAILRACE_RECORDS_H

#define AF_UNIX 1
#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define IPPROTO_MPTCP 262
#define SOCK_STREAM 1

#define TRANSPORT_TCP 6
#define TRANSPORT_UDP 17
#define TRANSPORT_UNIX 1 /* no protocol number of IP's; ICMP is not watched */

#define TCP_ESTABLISHED 1
#define TCP_SYN_SENT 2
#define TCP_SYN_RECV 3
#define TCP_FIN_WAIT1 4
#define TCP_FIN_WAIT2 5
#define TCP_CLOSE 7
#define TCP_CLOSE_WAIT 8
#define TCP_LAST_ACK 9
#define TCP_LISTEN 10
#define TCP_CLOSING 11

#define ECONNRESET 104
#define ENETUNREACH 101
#define ETIMEDOUT 110
#define ECONNREFUSED 111
#define EHOSTUNREACH 113

#define ROLE_CLIENT 1
#define ROLE_SERVER 2

#define TURN_NONE 0
#define TURN_ASKED 1	/* the last thing that moved was a question */
#define TURN_ANSWERED 2

#define TOUCHED_WAITED 2 /* an answer has taken so long that it may be a long poll's */

/* flags of a connection */
#define FLAG_ESTABLISHED 1
#define FLAG_ATTEMPT 2 /* its beginning was seen */
#define FLAG_RESET 4
#define FLAG_CLOSED 8 /* its end is counted */
#define FLAG_FIN 16   /* nothing can be sent any more: sent_end is final */
#define FLAG_DNS 32   /* a client of port 53 */
#define FLAG_HELD 64  /* a flow whose counts wait in `held` */

/* Where a counter stands in a group; bpf/layout.py has the same list. */
enum counter {
	JOINED, /* connections that count here; JOINED - LEFT are still open */
	LEFT,
	ATTEMPTS,
	ESTABLISHED,
	ENDED,
	BYTES_OUT,
	BYTES_IN,
	REQUESTS,
	WAITS, /* answers that were waited for on purpose: long polls, pushes */
	SEGMENTS,
	RETRANSMITS,
	TIMEOUTS, /* retransmission timer ran out */
	STALLS,	  /* sweeps that found a connection stopped by the peer's zero window */
	ACTIVE,	  /* sweeps that found a connection had moved something */
	REFUSED,
	TIMED_OUT,
	UNREACHABLE,
	CONNECT_RESET,
	ABORTED,
	NO_PORT, /* of its own was free */
	RESET_IN, /* after data; the next, before any */
	RESET_IN_EARLY,
	RESET_OUT,
	RESET_OUT_EARLY,
	DIED, /* gave up on a silent peer (ETIMEDOUT and its like) */
	DROPS, /* datagrams, for want of buffer */
	DATAGRAMS,
	DNS_ANSWERS, /* of any outcome */
	DNS_NXDOMAIN,
	DNS_SERVFAIL,
	DNS_REFUSED,
	DNS_OTHER,
	DNS_TIMED_OUT, /* queries that nobody answered */
	COUNTERS
};

/* kinds of latency */
#define LATENCY_REQUEST 0
#define LATENCY_CONNECT 1
#define LATENCY_ACCEPT 2
#define LATENCY_RTT 3
#define LATENCY_RTT_MIN 4
#define LATENCY_DNS 5
#define LATENCY_WAIT 6 /* a request that took so long that it may be a long poll */
#define LATENCY_READ 7 /* how long what has come lay in the socket before it was read */
#define LATENCY_WOKEN 8 /* at the server: an answer that waited for what another client said */

/* Mirrored by bpf.layout.LOST_KINDS: what a full map, or one that is busy, refused. */
#define LOST_CONNECTIONS 0
#define LOST_GROUPS 1
#define LOST_LATENCIES 2
#define LOST_LISTENERS 3
#define LOST_LINKS 4
#define LOST_QUERIES 5
#define LOST_ANSWERS 6
#define LOST_KINDS 7

#define OVERFLOW 0 /* the group of all that found no free one */

/* Mirrored by bpf.layout.OWNER. */
struct owner {
	u64 cgroup;
	u32 tgid;
	u32 started; /* start time of the leader, units of 2^20 ns: pids are used again */
	char command[16];
	char executable[32];
};

/* Mirrored by bpf.layout.DETAILS: what else tells who a group's process is, and cannot be asked for
 * once it is gone. Empty where it could not be read. Not in the group: that is read every time. */
struct details {
	char cgroup[96];      /* the last part of its path, in the unified hierarchy */
	char arguments[128];  /* of the command line, each with a NUL */
	u32 arguments_length; /* of the whole line, which may be longer */
	u32 pad;
};

/* Mirrored by bpf.layout.GROUP_KEY: who talks to whom, seen from one end. */
struct group_key {
	u64 peer; /* server's end: id of the client's group when that is on this host, else 0 */
	u8 remote[16]; /* the server's address; the client's if `peer` is 0; of UNIX: see unix.h */
	u32 tgid;
	u32 started;
	u32 netns;
	u16 port; /* the server's */
	u8 role;
	u8 transport;
	u8 self; /* the other end has the same address: it must be on this host */
	u8 pad[3];
	u32 executed; /* a client's: how often it and its forebears have called execve(2) */
};

/* Mirrored by bpf.layout.GROUP. All connections of one process to or from one other end. */
struct group {
	u64 id; /* never used twice; 0: free */
	u64 link; /* client's end: id of the group at the other end, as last seen */
	struct group_key key;
	struct owner owner;
	char path[64]; /* of UNIX sockets */
	u32 interval;  /* user space's word: time at most one request in so many; a power of 2, or 0 */
	u32 pad;
	u64 mark;      /* the highest of its connections' since user space last set it to 0 */
	u64 counts[COUNTERS];
};

/* One connection, by its socket; a UDP flow, by socket and peer. What every send and receive
 * touches comes first: it is one line of the cache. */
struct connection {
	u32 group; /* place in `groups` */
	u32 tgid;
	u8 role;
	u8 turn;
	u8 interval; /* about one request in so many is timed */
	u8 skip;     /* untimed requests until the next */
	u8 rest;     /* sweeps since the last answer */
	s8 pushed;   /* how much it looks like a stream of unasked messages */
	u8 touched;  /* its owner was seen at work on it; or TOUCHED_WAITED */
	u8 flags;    /* written under the socket's lock only */
	u64 requests;
	u64 waits;
	u64 timed_requests; /* `requests` when one was last timed */
	u64 asked_ns;	    /* 0: this request is not timed */
	u64 timed_ns;
	/* the rest is rarely touched */
	u64 opened_ns;
	u64 group_id; /* a flow's, which may outlive its group */
	u64 peer;     /* a server's end: id of the client's group, 0 if that is elsewhere */
	u64 mark;     /* of TCP: both ends have the same, on whatever hosts; of a flow, 0 */
	u32 peer_group;
	u32 datagrams;
	u64 requests_folded; /* up to where it has been counted in the group */
	u64 waits_folded;
	u64 sent;
	u64 received;
	u64 segments;
	u64 retransmits;
	u64 sent_end; /* with FLAG_FIN */
	u32 timeouts; /* of the retransmission timer, in a row; a flow's: TUNING_TRANSLATED when it last
			 looked for its other end */
	u16 port;     /* the remote one, as the socket has it; a UDP flow's own */
	u16 pad;
};

/* Mirrored by bpf.layout.ENDPOINT: where somebody listens. */
struct endpoint {
	u8 address[16];
	u32 netns;
	u16 port;
	u16 pad;
};

/* Mirrored by bpf.layout.LISTENER. */
struct listener {
	struct owner owner;
	u64 count; /* sockets listening here (SO_REUSEPORT) */
};

/* Mirrored by bpf.layout.LATENCY_KEY. */
struct latency_key {
	u32 group;
	u16 bucket;
	u16 kind;
};

/* Mirrored by bpf.layout.LATENCY. */
struct latency {
	u64 samples;
	u64 weight; /* requests that they stand for */
};

/* The client's end of a connection, waiting for the server's to look for it. Of TCP, `client` and
 * `server` hold the numbers with which their streams began, and there are no ports. Of UDP,
 * `client` is its address, or if it has none of its own, zeros, and once more its namespace;
 * `server` is left out, as a server bound to the wildcard does not know which address was asked. */
struct half {
	u8 client[16];
	u8 server[16];
	u16 client_port;
	u16 server_port;
	u8 transport;
	u8 pad[3];
};

struct half_group {
	u64 id;
	u32 group;
	u32 tgid;
	u8 server[16]; /* of UDP only, whose key lacks it */
	u32 netns;
	u32 pad;
};

/* Mirrored by bpf.layout.VIEW: a UDP flow as its server sees it. */
struct view {
	u8 client[16];
	u32 netns; /* the server's */
	u16 client_port;
	u16 server_port;
};

/* Mirrored by bpf.layout.ASKED: the same flow as its client sees it, before its addresses are
 * translated. */
struct asked {
	u8 client[16];
	u8 server[16];
	u32 netns; /* the client's; 0 if that is not known */
	u16 client_port;
	u16 server_port;
};

/* What a server's UDP flow has counted since it was met, while nobody knows whether its client is on
 * this host: the translation of its addresses is known to user space, a moment later. */
struct held {
	u64 since_ns;
	u64 group_id;
	u64 flows; /* 1 */
	u64 datagrams;
	u64 bytes_out;
	u64 bytes_in;
	u64 requests;
	u64 drops;
	u64 took_ns; /* the last answer; it stands for all of them */
	u8 local[16];
	u32 group;
	u16 port;    /* the client's, as the server sees it */
	u16 settled; /* its group is found; what came in between is still to be moved there */
};

#endif
