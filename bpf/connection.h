/* SPDX-License-Identifier: GPL-2.0-only */
/* What is kept of a connection, an owner and a listener; bpf/layout.py mirrors the structs. */
#ifndef TAILRACE_CONNECTION_H
#define TAILRACE_CONNECTION_H

#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_TCP 6

#define TCP_ESTABLISHED 1
#define TCP_SYN_SENT 2
#define TCP_SYN_RECV 3
#define TCP_CLOSE 7
#define TCP_LISTEN 10

#define ROLE_CLIENT 1
#define ROLE_SERVER 2

#define TURN_NONE 0
#define TURN_OUT 1 /* the last thing that moved was sent by this side */
#define TURN_IN 2

#define FLAG_OWNED 1	 /* owner seen at work on the socket, not inherited from the listener */
#define FLAG_FAILED 2	 /* connect failed; `error` says how */
#define FLAG_RESET_IN 4	 /* a reset arrived */
#define FLAG_RESET_OUT 8 /* a reset was sent */
#define FLAG_SEEDED 16	 /* open before the first hook was attached, or met late */
#define FLAG_ATTEMPT 32	 /* the connect itself was seen */

#define LOST_CONNECTIONS 0
#define LOST_CLOSED 1
#define LOST_LATENCIES 2
#define LOST_LISTENERS 3
#define LOST_KINDS 4

struct owner {
	u64 cgroup;
	u32 tgid;
	u32 pad;
	char command[16];
	char executable[32];
};

/* Mirrored by bpf.layout.CONNECTION. Counters only ever grow. */
struct connection {
	u64 id;
	u64 opened_ns;	    /* SYN sent, child established, or first met; CLOCK_MONOTONIC */
	u64 established_ns; /* 0: not (yet) */
	u64 closed_ns;	    /* 0: not yet */
	u64 bytes_out;	    /* as the owner's calls returned them */
	u64 bytes_in;
	u64 turnarounds; /* requests answered */
	u64 last_out_ns;
	u64 last_in_ns;
	u64 sampled_ns;
	struct owner owner;
	u8 local_address[16]; /* IPv4 as ::ffff:a.b.c.d */
	u8 remote_address[16];
	u32 netns;
	u16 local_port;
	u16 remote_port;
	u32 segments_out; /* data segments since opened_ns, retransmitted ones included */
	u32 retransmits;
	u32 segments_base; /* what the two counters stood at when a seeded socket was met */
	u32 retransmits_base;
	u32 srtt_us;
	u16 error; /* errno */
	u8 role;
	u8 turn;
	u32 flags;
	u32 pad;
};

/* Mirrored by bpf.layout.ENDPOINT. */
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
	u64 id;
	u32 bucket;
	u32 pad;
};

#endif
