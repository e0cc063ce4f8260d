// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/* A program on the switch that does nothing: what any program there costs. */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

char _license[] SEC("license") = "GPL";

const volatile __u32 nothing = 0;

SEC("tp_btf/sched_switch")
int empty(void *ctx)
{
	return ctx == (void *)0 || nothing;
}
