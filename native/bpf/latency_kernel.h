/* The kernel's types, as far as latency.bpf.c reads them; see kernel.h. */
#ifndef PYMON_BPF_LATENCY_KERNEL_H
#define PYMON_BPF_LATENCY_KERNEL_H

#include "kernel.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct css_set {
	struct cgroup_subsys_state *subsys[1];
	struct cgroup *dfl_cgrp;
};

struct sched_info {
	unsigned long long last_queued;
};

struct rq {
	__u64 clock;
};

struct cfs_rq {
	struct rq *rq;
};

struct sched_entity {
	struct cfs_rq *cfs_rq;
};

struct task_struct {
	unsigned int __state;
	int pid;
	struct sched_entity se; /* its run queue is that of the CPU, whatever class the task is of */
	struct css_set *cgroups;
	struct sched_info sched_info;
};

struct blkcg_gq {
	struct blkcg *blkcg;
};

struct bio {
	struct blkcg_gq *bi_blkg;
};

struct gendisk {
	int major;
	int first_minor;
};

struct request_queue {
	struct gendisk *disk;
};

struct request {
	struct request_queue *q;
	struct bio *bio;
	unsigned int cmd_flags;
	unsigned int __data_len;
};

#pragma clang attribute pop

enum req_op { REQ_OP_READ = 1, REQ_OP_WRITE, REQ_OP_FLUSH, REQ_OP_DISCARD };

#endif
