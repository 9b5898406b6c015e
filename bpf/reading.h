/* SPDX-License-Identifier: GPL-2.0-only */
/* Reading the kernel's structs, each field at its offset of OFF_*. */
#ifndef TAILRACE_READING_H
#define TAILRACE_READING_H

/* A macro and no function: the size must be a constant for the verifier. */
#define READ(to, base, offset) bpf_probe_read_kernel(&(to), sizeof(to), (char *)(base) + (offset))

static __always_inline u16 swap16(u16 v)
{
	return v << 8 | v >> 8;
}

static __always_inline u16 family_of(void *sk)
{
	u16 family = 0;
	READ(family, sk, OFF_skc_family);
	return family;
}

static __always_inline u16 protocol_of(void *sk)
{
	u16 protocol = 0;
	READ(protocol, sk, OFF_sk_protocol);
	return protocol;
}

/* of struct socket */
static __always_inline void *sk_of(void *socket)
{
	void *sk = NULL;
	READ(sk, socket, OFF_socket_sk);
	return sk;
}

static __always_inline u8 state_of(void *sk)
{
	u8 state = 0;
	READ(state, sk, OFF_skc_state);
	return state;
}

static __always_inline int is_tcp(void *sk)
{
	u16 family = family_of(sk);
	return (family == AF_INET || family == AF_INET6) && protocol_of(sk) == IPPROTO_TCP;
}

static __always_inline u32 netns_of(void *sk)
{
	void *net = NULL;
	u32 inum = 0;
	READ(net, sk, OFF_skc_net);
	READ(inum, net, OFF_net_inum);
	return inum;
}

static __always_inline void read_address4(u8 *to, void *from)
{
	*(u64 *)to = 0;
	*(u32 *)(to + 8) = 0xffff0000; /* bytes 00 00 ff ff on a little-endian machine */
	bpf_probe_read_kernel(to + 12, 4, from);
}

/* `to` as in struct half: aligned to 8 bytes. */
static __always_inline void read_address(u8 *to, void *sk, int offset4, int offset6)
{
	if (family_of(sk) == AF_INET6)
		bpf_probe_read_kernel(to, 16, (char *)sk + offset6);
	else
		read_address4(to, (char *)sk + offset4);
}

static __always_inline void read_local(u8 *to, void *sk)
{
	read_address(to, sk, OFF_skc_rcv_saddr, OFF_skc_v6_rcv_saddr);
}

static __always_inline void read_remote(u8 *to, void *sk)
{
	read_address(to, sk, OFF_skc_daddr, OFF_skc_v6_daddr);
}

static __always_inline u16 local_port(void *sk)
{
	u16 port = 0;
	READ(port, sk, OFF_skc_num);
	return port;
}

static __always_inline u16 remote_port(void *sk)
{
	u16 port = 0;
	READ(port, sk, OFF_skc_dport);
	return swap16(port);
}

/* The wildcards 0.0.0.0 and ::, and ::ffff:0.0.0.0, are one. */
static __always_inline int is_wildcard(const u8 *address)
{
	u32 middle = *(u32 *)(address + 8);
	return *(u64 *)address == 0 && *(u32 *)(address + 12) == 0 &&
	       (middle == 0 || middle == 0xffff0000);
}

static __always_inline int is_loopback(const u8 *address)
{
	u32 middle = *(u32 *)(address + 8);
	if (*(u64 *)address)
		return 0;
	if (middle == 0xffff0000)
		return address[12] == 127;
	return middle == 0 && *(u32 *)(address + 12) == 0x01000000; /* ::1 */
}

static __always_inline int same_address(const u8 *a, const u8 *b)
{
	return *(u64 *)a == *(u64 *)b && *(u64 *)(a + 8) == *(u64 *)(b + 8);
}

/* Start time of a process's leader in units of 2^20 ns: with the pid, who it is. */
static __always_inline u32 started(void *leader)
{
	u64 start = 0;
	READ(start, leader, OFF_start_time);
	return start >> 20;
}

static __always_inline void *leader_of(void *task)
{
	void *leader = NULL;
	READ(leader, task, OFF_group_leader);
	return leader;
}

static __always_inline int is_kernel_thread(void *task)
{
	void *mm = NULL;
	READ(mm, task, OFF_mm);
	return !mm;
}

/* Where kernfs has the directory of a task's cgroup, in the unified hierarchy. */
static __always_inline void *cgroup_node(void *task)
{
	void *at = NULL;
	READ(at, task, OFF_cgroups);
	READ(at, at, OFF_dfl_cgrp);
	READ(at, at, OFF_cgroup_kn);
	return at;
}

/* The name of the thread group leader, since threads rename themselves, and of the file it runs,
 * since the former is cut at 15 characters. Read here and now: the process may be gone before
 * anybody can ask for it. */
static __always_inline void read_owner(struct owner *owner, void *task)
{
	void *leader = leader_of(task), *at = NULL;

	READ(owner->tgid, task, OFF_tgid);
	owner->started = started(leader);
	bpf_probe_read_kernel_str(owner->command, sizeof(owner->command), (char *)leader + OFF_comm);
	/* the helper for the current cgroup knows the current task only */
	at = cgroup_node(leader);
	READ(owner->cgroup, at, OFF_kernfs_id);
	READ(at, leader, OFF_mm);
	if (!at) /* a kernel thread */
		return;
	READ(at, at, OFF_exe_file);
	READ(at, at, OFF_f_dentry);
	READ(at, at, OFF_d_name);
	bpf_probe_read_kernel_str(owner->executable, sizeof(owner->executable), at);
}

/* `task`: the current one, or one that is alive and can be asked later. */
static __always_inline void read_details(struct details *details, void *task)
{
	void *at = cgroup_node(task);
	u64 begin = 0, end = 0;
	u64 length;

	READ(at, at, OFF_kernfs_name);
	bpf_probe_read_kernel_str(details->cgroup, sizeof(details->cgroup), at);
	READ(at, task, OFF_mm);
	if (!at || task != (void *)bpf_get_current_task())
		return;
	READ(begin, at, OFF_arg_start);
	READ(end, at, OFF_arg_end);
	length = end - begin;
	details->arguments_length = length;
	/* no more than that: behind it stands the environment, with its secrets */
	if (length > sizeof(details->arguments) - 1)
		length = sizeof(details->arguments) - 1;
	asm volatile("%0 &= 127" : "+r"(length)); /* which the verifier understands */
	bpf_probe_read_user(details->arguments, length, (void *)begin);
}

static __always_inline u64 mix(u64 h, u64 v)
{
	h = (h ^ v) * 0x9e3779b97f4a7c15ULL;
	return h ^ h >> 29;
}

static __always_inline u32 current_tgid(void)
{
	return bpf_get_current_pid_tgid() >> 32;
}

#endif
