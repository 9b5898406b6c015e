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

/* The name of the thread group leader, since threads rename themselves, and of the file it runs,
 * since the former is cut at 15 characters. Read here and now: the process may be gone before
 * anybody can ask for it. */
static __always_inline void read_owner(struct owner *owner, void *task)
{
	void *leader = leader_of(task);
	void *cgroups = NULL, *cgroup = NULL, *node = NULL;
	void *mm = NULL, *file = NULL, *dentry = NULL, *name = NULL;

	READ(owner->tgid, task, OFF_tgid);
	owner->started = started(leader);
	bpf_probe_read_kernel_str(owner->command, sizeof(owner->command), (char *)leader + OFF_comm);
	/* the helper for the current cgroup knows the current task only */
	READ(cgroups, leader, OFF_cgroups);
	READ(cgroup, cgroups, OFF_dfl_cgrp);
	READ(node, cgroup, OFF_cgroup_kn);
	READ(owner->cgroup, node, OFF_kernfs_id);
	READ(mm, leader, OFF_mm);
	if (!mm) /* a kernel thread */
		return;
	READ(file, mm, OFF_exe_file);
	READ(dentry, file, OFF_f_dentry);
	READ(name, dentry, OFF_d_name);
	bpf_probe_read_kernel_str(owner->executable, sizeof(owner->executable), name);
}

static __always_inline u32 current_tgid(void)
{
	return bpf_get_current_pid_tgid() >> 32;
}

#endif
