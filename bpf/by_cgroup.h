/* SPDX-License-Identifier: GPL-2.0-only */
/* Programs at the root cgroup's hooks, where a socket is given an address or asked for one. */
#ifndef TAILRACE_BY_CGROUP_H
#define TAILRACE_BY_CGROUP_H

/* struct bpf_sock_addr, include/uapi/linux/bpf.h */
struct sock_addr {
	u32 user_family;
	u32 user_ip4;
	u32 user_ip6[4];
	u32 user_port;
	u32 family, type, protocol;
	u32 msg_src_ip4;
	u32 msg_src_ip6[4];
};
#define SOCK_ADDR_SK 64

/* The socket's address as a plain number: the verifier knows it as a pointer of a type of its own,
 * with which nothing can be reckoned. A copy by a helper is a number to it. */
static __always_inline u64 socket_of(struct sock_addr *ctx)
{
	u64 typed, sk = 0;
	asm volatile("%0 = *(u64 *)(%1 + %2)" : "=r"(typed) : "r"(ctx), "i"(SOCK_ADDR_SK));
	bpf_probe_read_kernel(&sk, sizeof(sk), &typed);
	return sk;
}

/* cgroup/getpeername4 and 6: accept(2) with an address to fill in comes by here */
#ifdef WANT_on_accept
int on_accept(struct sock_addr *ctx)
{
	accepted(socket_of(ctx));
	return 1;
}
#endif

static __always_inline int named4(struct sock_addr *ctx)
{
	u64 sk = socket_of(ctx);
	struct named_peer peer = {};

	*(u32 *)(peer.address + 8) = 0xffff0000;
	*(u32 *)(peer.address + 12) = ctx->user_ip4;
	peer.port = swap16(ctx->user_port);
	named_peers.update(&sk, &peer);
	return 1;
}

static __always_inline int named6(struct sock_addr *ctx)
{
	u64 sk = socket_of(ctx);
	struct named_peer peer = {};

	*(u32 *)peer.address = ctx->user_ip6[0];
	*(u32 *)(peer.address + 4) = ctx->user_ip6[1];
	*(u32 *)(peer.address + 8) = ctx->user_ip6[2];
	*(u32 *)(peer.address + 12) = ctx->user_ip6[3];
	peer.port = swap16(ctx->user_port);
	named_peers.update(&sk, &peer);
	return 1;
}

/* cgroup/sendmsg4, recvmsg4 and 6: datagrams whose peer is named with them */
#ifdef WANT_on_named4
int on_named4(struct sock_addr *ctx)
{
	return named4(ctx);
}
#endif

#ifdef WANT_on_named6
int on_named6(struct sock_addr *ctx)
{
	return named6(ctx);
}
#endif

/* cgroup/connect4 and 6: before a socket connects, or finds that it cannot */
#ifdef WANT_on_connect4
int on_connect4(struct sock_addr *ctx)
{
	u64 address[2] = {};

	if (ctx->protocol != IPPROTO_TCP || !ctx->user_ip4) /* to 0.0.0.0 there is always a way */
		return 1;
	*(u32 *)((u8 *)address + 8) = 0xffff0000;
	*(u32 *)((u8 *)address + 12) = ctx->user_ip4;
	connect_begins(socket_of(ctx), (u8 *)address, swap16(ctx->user_port));
	return 1;
}
#endif

#ifdef WANT_on_connect6
int on_connect6(struct sock_addr *ctx)
{
	u64 address[2] = {};

	*(u32 *)address = ctx->user_ip6[0];
	*(u32 *)((u8 *)address + 4) = ctx->user_ip6[1];
	*(u32 *)((u8 *)address + 8) = ctx->user_ip6[2];
	*(u32 *)((u8 *)address + 12) = ctx->user_ip6[3];
	if (ctx->protocol == IPPROTO_TCP && !is_wildcard((u8 *)address))
		connect_begins(socket_of(ctx), (u8 *)address, swap16(ctx->user_port));
	return 1;
}
#endif

#endif
