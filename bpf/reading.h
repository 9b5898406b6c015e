/* SPDX-License-Identifier: GPL-2.0-only */
/* Reading the kernel's structs, each field at its offset of OFF_*. */
#ifndef TAILRACE_READING_H
#define TAILRACE_READING_H

/* How often the TCP counters of a busy connection are read: they change with every segment, and
 * nobody looks at them more often than once a window. */
#define SAMPLE_NS 50000000ULL

/* A macro and no function: the size must be a constant for the verifier. */
#define READ(to, base, offset) bpf_probe_read_kernel(&(to), sizeof(to), (char *)(base) + (offset))

static __always_inline u16 swap16(u16 v)
{
	return v << 8 | v >> 8;
}

static __always_inline int is_tcp(void *sk)
{
	u16 family = 0, protocol = 0;
	READ(family, sk, OFF_skc_family);
	if (family != AF_INET && family != AF_INET6)
		return 0;
	READ(protocol, sk, OFF_sk_protocol);
	return protocol == IPPROTO_TCP;
}

static __always_inline u32 netns_of(void *sk)
{
	void *net = NULL;
	u32 inum = 0;
	READ(net, sk, OFF_skc_net);
	READ(inum, net, OFF_net_inum);
	return inum;
}

static __always_inline void read_address(u8 *to, void *sk, int offset4, int offset6)
{
	u16 family = 0;
	READ(family, sk, OFF_skc_family);
	if (family == AF_INET6) {
		bpf_probe_read_kernel(to, 16, (char *)sk + offset6);
		/* ::ffff:0:0 and :: are one wildcard to us */
		return;
	}
	*(u64 *)to = 0;
	*(u32 *)(to + 8) = 0xffff0000; /* bytes 00 00 ff ff on a little-endian machine */
	bpf_probe_read_kernel(to + 12, 4, (char *)sk + offset4);
}

static __always_inline void read_tuple(struct connection *c, void *sk)
{
	u16 port = 0;
	read_address(c->local_address, sk, OFF_skc_rcv_saddr, OFF_skc_v6_rcv_saddr);
	read_address(c->remote_address, sk, OFF_skc_daddr, OFF_skc_v6_daddr);
	READ(port, sk, OFF_skc_num);
	c->local_port = port;
	READ(port, sk, OFF_skc_dport);
	c->remote_port = swap16(port);
}

/* The name of the thread group leader, since threads rename themselves, and of the file it runs,
 * since the former is cut at 15 characters. Read here and now: the process may be gone before
 * anybody can ask for it. */
static __always_inline void read_owner(struct owner *owner, void *task)
{
	void *leader = NULL, *mm = NULL, *file = NULL, *dentry = NULL, *name = NULL;

	READ(owner->tgid, task, OFF_tgid);
	READ(leader, task, OFF_group_leader);
	bpf_probe_read_kernel_str(owner->command, sizeof(owner->command), (char *)leader + OFF_comm);
	READ(mm, leader, OFF_mm);
	if (!mm) /* a kernel thread */
		return;
	READ(file, mm, OFF_exe_file);
	READ(dentry, file, OFF_f_dentry);
	READ(name, dentry, OFF_d_name);
	bpf_probe_read_kernel_str(owner->executable, sizeof(owner->executable), name);
}

static __always_inline void current_owner(struct owner *owner)
{
	read_owner(owner, (void *)bpf_get_current_task());
	owner->cgroup = bpf_get_current_cgroup_id();
}

static __always_inline void sample_tcp(struct connection *c, void *sk, u64 now)
{
	u32 value = 0;
	READ(value, sk, OFF_srtt_us);
	if (value)
		c->srtt_us = value >> 3;
	READ(value, sk, OFF_data_segs_out);
	c->segments_out = value - c->segments_base;
	READ(value, sk, OFF_total_retrans);
	c->retransmits = value - c->retransmits_base;
	c->sampled_ns = now;
}

#endif
