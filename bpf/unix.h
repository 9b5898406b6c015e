/* SPDX-License-Identifier: GPL-2.0-only */
/* UNIX sockets: who has an address of his own is the server, who is connected to one the client.
 * Pairs of sockets without an address are pipes within a program and not watched.
 *
 * A socket that datagrams are sent to is nobody's peer, so its owner is known from the first that
 * he receives. Datagrams to a name (syslog's way) are found in the registers with which their
 * sender has called the kernel, since no tracepoint tells the name. */
#ifndef TAILRACE_UNIX_H
#define TAILRACE_UNIX_H

#include "datagrams.h"

#ifdef OFF_unix_addr
#define SOCK_DGRAM 2
#define PATH_BYTES 64
#define TRIES 16      /* sends after which a server that was not found is looked for no more */
#define REMINDER 1024 /* datagrams after which a server's name is stored again: LRU forgets */

/* What is too big for the stack of 512 bytes; one for sends and one for receives, since a program
 * does not run twice at a time on one CPU, but two may. */
struct unix_scratch {
	u64 path[PATH_BYTES / 8];
	u64 registers[21];
	struct connection fresh;
};
BPF_PERCPU_ARRAY(unix_scratches, struct unix_scratch, 2);

static __always_inline void clear(struct unix_scratch *scratch)
{
	__builtin_memset(scratch, 0, sizeof(*scratch));
}

/* An abstract name, as ss(8) writes it; `size` counts its leading zero byte. */
#define READ_ABSTRACT(to, from, size, read)                                                        \
	do {                                                                                       \
		u32 n = (size)-1;                                                                  \
		(to)[0] = '@';                                                                     \
		if (n > PATH_BYTES - 2)                                                            \
			n = PATH_BYTES - 2;                                                        \
		asm volatile("" : "+r"(n)); /* or the compiler drops what the verifier wants */    \
		n &= PATH_BYTES - 1;                                                               \
		read((to) + 1, n, (from) + 1);                                                     \
	} while (0)

static __always_inline void read_path(char *to, void *address)
{
	char *from = (char *)address + OFF_unix_address_path;
	u32 size = 0;

	if (bpf_probe_read_kernel_str(to, PATH_BYTES, from) > 1)
		return;
	READ(size, address, OFF_unix_address_len); /* with the family's two bytes */
	if (size > 2)
		READ_ABSTRACT(to, from, size - 2, bpf_probe_read_kernel);
}

/* Read the name that the current system call sends to; return whether it has one. */
static __always_inline int read_named(struct unix_scratch *scratch)
{
#if defined(ON_X86_64) && defined(OFF_task_stack)
	/* struct pt_regs, arch/x86/include/asm/ptrace.h, at the stack's end; with CONFIG_X86_FRED
	 * there are two words more behind it. User mode's selectors prove that it is the one. */
	const u32 stack_bytes = 16384, words = 21, user_code = 0x33, user_data = 0x2b;
	u64 header[2] = {}, name, size, *registers = scratch->registers;
	char *stack = NULL, *to = (char *)scratch->path;
	char first = 0;

	READ(stack, (void *)bpf_get_current_task(), OFF_task_stack);
	stack += stack_bytes - words * 8;
	READ(scratch->registers, stack, 0);
	if (registers[17] != user_code || registers[20] != user_data) {
		READ(scratch->registers, stack, -16);
		if (registers[17] != user_code || registers[20] != user_data)
			return 0;
	}
	switch (registers[15]) {
	case 44: /* sendto(2): its fifth and sixth argument */
		name = registers[9];
		size = registers[8];
		break;
	case 46:  /* sendmsg(2): the first two words of the header */
	case 307: /* sendmmsg(2): those of the first of its messages */
		bpf_probe_read_user(header, sizeof(header), (void *)registers[13]);
		name = header[0];
		size = (u32)header[1];
		break;
	default: /* io_uring, and whatever else */
		return 0;
	}
	if (!name || size <= 3)
		return 0;
	name += 2; /* the family */
	bpf_probe_read_user(&first, 1, (void *)name);
	if (!first) {
		READ_ABSTRACT(to, (char *)name, (u32)size - 2, bpf_probe_read_user);
		return 1;
	}
	/* its end is where the name says, or where the size does */
	if (size > PATH_BYTES)
		size = PATH_BYTES + 1;
	size -= 1;
	asm volatile("" : "+r"(size));
	size &= PATH_BYTES * 2 - 1;
	if (size > PATH_BYTES)
		return 0;
	return bpf_probe_read_user_str(to, size, (void *)name) > 1;
#else
	return 0;
#endif
}

/* Where the owner of a name is found. Mount namespaces may have different sockets of one name; a
 * network namespace of its own is what tells their containers apart. */
static __always_inline u64 name_key(void *sk, const u64 *path)
{
	u64 h = netns_of(sk);
	int i;

#pragma unroll
	for (i = 0; i < PATH_BYTES / 8; i++)
		h = mix(h, path[i]);
	return h;
}

/* Where the last who has sent to a name that nobody was known to own is found. */
static __always_inline u64 waiting_key(u64 name)
{
	return mix(name, 1);
}

static __always_inline u32 peer_tgid(void *sk)
{
	void *pid = NULL;
	u32 number = 0;

	READ(pid, sk, OFF_sk_peer_pid);
	if (pid)
		READ(number, pid, OFF_pid_number);
	return number;
}

/* Keep the fresh record, whose role and peer are set, under `flow`; make its group. */
static __always_inline void open_unix(void *sk, u64 flow, struct unix_scratch *scratch, u32 server)
{
	void *task = (void *)bpf_get_current_task();
	struct connection *c = &scratch->fresh;
	struct group_key key = {};
	struct group *g;
	int i;

	c->touched = 1;
	c->interval = 1;
	c->tgid = current_tgid();
	if (c->role) {
		key.peer = c->peer;
		key.role = c->role;
		key.transport = TRANSPORT_UNIX;
		key.self = 1;
		*(u64 *)key.remote = server;
#pragma unroll
		for (i = 0; i < PATH_BYTES / 8; i++)
			*(u64 *)(key.remote + 8) = mix(*(u64 *)(key.remote + 8), scratch->path[i]);
		set_process(&key, task);
		c->group = find_group(&key, NULL, task);
		c->group_id = id_of(c->group);
		g = groups.lookup(&c->group);
		if (g && c->group != OVERFLOW)
			__builtin_memcpy(g->path, scratch->path, PATH_BYTES);
		if (c->role == ROLE_SERVER && c->peer)
			link_groups(c->peer_group, c->peer, c->group);
	}
	if (flows.update(&flow, c))
		count_lost(LOST_CONNECTIONS);
	else if (c->role)
		count(c->group, ESTABLISHED);
}

/* An address in memory is used again: it is the same socket if all else is the same. */
static __always_inline int is_stale(struct connection *c)
{
	return c->tgid != current_tgid() || (c->role && id_of(c->group) != c->group_id);
}

/* Whether a socket is in a namespace that is not looked at; what is known of its address may be of
 * an earlier one there. */
static __always_inline int is_outside(void *sk, struct connection *c)
{
	return tuned(TUNING_NETNS) && (!c || is_stale(c)) && !is_watched(netns_of(sk));
}

/* Look for the owner of the name that this client sends to. */
static __always_inline void find_owner(struct connection *c, u64 name)
{
	struct connection *owner;
	u64 waiting = waiting_key(name);

	if (c->peer || c->datagrams > TRIES)
		return;
	c->datagrams++;
	owner = flows.lookup(&name);
	if (!owner || id_of(owner->group) != owner->group_id) {
		flows.update(&waiting, c);
		return;
	}
	c->peer = owner->group_id;
	link_groups(c->group, c->group_id, owner->group);
}

/* A datagram has come to a name: here is who owns that. His group is only for his name; the
 * traffic counts at the senders' ends, all of which are on this host. */
static __always_inline void heard(void *sk, struct connection *c, struct unix_scratch *scratch)
{
	struct connection *fresh = &scratch->fresh, *waiting;
	u64 key = (u64)sk, name, wait;
	void *mine = NULL;

	if (!c || is_stale(c)) {
		READ(mine, sk, OFF_unix_addr);
		if (!mine)
			return;
		clear(scratch);
		read_path((char *)scratch->path, mine);
		fresh->role = ROLE_SERVER;
		fresh->sent = name_key(sk, scratch->path);
		open_unix(sk, key, scratch, 0);
		c = flows.lookup(&key);
		if (!c)
			return;
	}
	if (c->datagrams++ % REMINDER == 0) {
		name = c->sent;
		wait = waiting_key(name);
		*fresh = *c;
		flows.update(&name, fresh);
		waiting = flows.lookup(&wait);
		if (waiting)
			link_groups(waiting->group, waiting->group_id, c->group);
	}
	count(c->group, DATAGRAMS);
}

/* A datagram to a name. What is kept under the socket is the client's last such flow. */
static __always_inline struct connection *sent_to_name(void *sk, struct connection *c,
						       struct unix_scratch *scratch)
{
	struct connection *fresh = &scratch->fresh;
	u64 key = (u64)sk, name, flow;

	if (c && c->role == ROLE_SERVER && !is_stale(c)) /* it answers */
		return NULL;
	clear(scratch);
	if (!read_named(scratch))
		return NULL;
	name = name_key(sk, scratch->path);
	if (!c || c->sent != name || c->role != ROLE_CLIENT || is_stale(c)) {
		flow = mix(key, name);
		c = flows.lookup(&flow);
		if (!c || is_stale(c)) {
			fresh->role = ROLE_CLIENT;
			fresh->sent = name;
			open_unix(sk, flow, scratch, 0);
		} else {
			*fresh = *c;
		}
		flows.update(&key, fresh);
		c = flows.lookup(&key);
	}
	if (c)
		find_owner(c, name);
	return c;
}

/* Whether an address is that of several sockets: of a listener and those he has accepted. */
static __always_inline int is_shared(void *address)
{
	u32 users = 0;

	READ(users, address, OFF_unix_address_users);
	return users > 1;
}

/* A socket with a peer. */
static __always_inline struct connection *with_peer(void *sk, void *peer, struct connection *c,
						    struct unix_scratch *scratch)
{
	void *mine = NULL, *theirs = NULL;
	struct connection *fresh = &scratch->fresh, *other;
	u64 key = (u64)sk, from = (u64)peer;
	int known = c && c->sent == from && !is_stale(c);
	u16 type = 0;

	if (known && (c->peer || !c->datagrams || c->datagrams > TRIES))
		return c;
	clear(scratch);
	READ(type, sk, OFF_sk_type);
	READ(mine, sk, OFF_unix_addr);
	READ(theirs, peer, OFF_unix_addr);
	if (type == SOCK_DGRAM || (mine && theirs && !is_shared(mine) && is_shared(theirs)))
		mine = NULL; /* for answers, or only to be told by */
	if (theirs || mine)
		read_path((char *)scratch->path, mine ? mine : theirs);
	if (!known) {
		fresh->role = mine ? ROLE_SERVER : theirs ? ROLE_CLIENT : 0;
		fresh->sent = from;
		other = flows.lookup(&from);
		if (mine && other && other->role == ROLE_CLIENT) {
			fresh->peer = other->group_id;
			fresh->peer_group = other->group;
		}
		open_unix(sk, key, scratch, peer_tgid(sk));
		c = flows.lookup(&key);
		if (!c)
			return NULL;
	}
	if (type == SOCK_DGRAM && c->role == ROLE_CLIENT)
		find_owner(c, name_key(peer, scratch->path));
	return c;
}

/* The flow of what moved, which is counted, or NULL. */
static __always_inline struct connection *unix_flow(void *sk, int length, int out)
{
	u64 key = (u64)sk;
	void *peer = NULL;
	struct connection *c = flows.lookup(&key);
	struct unix_scratch *scratch = unix_scratches.lookup(&out);
	struct group *g;
	u16 type = 0;

	if (!scratch || is_outside(sk, c))
		return NULL;
	READ(peer, sk, OFF_unix_peer);
	if (peer) {
		c = with_peer(sk, peer, c, scratch);
	} else {
		READ(type, sk, OFF_sk_type);
		if (type != SOCK_DGRAM)
			return NULL;
		if (out)
			c = sent_to_name(sk, c, scratch);
		else if (!c || c->role != ROLE_CLIENT || is_stale(c)) {
			heard(sk, c, scratch);
			return NULL;
		}
	}
	if (!c || !c->role)
		return NULL;
	g = groups.lookup(&c->group);
	if (!g)
		return NULL;
	add(g, out ? BYTES_OUT : BYTES_IN, length);
	return c;
}
#else
static __always_inline struct connection *unix_flow(void *sk, int length, int out)
{
	return NULL;
}
#endif

#endif
