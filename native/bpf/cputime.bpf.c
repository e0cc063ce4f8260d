// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/* The run time that the kernel counts for each cgroup of version 2. It is flushed by a function of the kernel, which
 * has another name and argument before 6.16: this is compiled once for each. libbpf looks for a function that the
 * kernel does not have among its modules, which it may not list without CAP_SYS_ADMIN: so no program without one is
 * with them in one object. */
#include "program.h"

#ifdef PYMON_BEFORE_6_16
extern void cgroup_rstat_flush(struct cgroup *cgroup) __ksym;
#define FLUSH(cgroup_) cgroup_rstat_flush(cgroup_)
#else
extern void css_rstat_flush(struct cgroup_subsys_state *css) __ksym;
#define FLUSH(cgroup_) css_rstat_flush(&(cgroup_)->self)
#endif

SEC("iter.s/cgroup")
int walk_cputime(struct bpf_iter__cgroup *ctx)
{
	BEGIN(ctx);

	FLUSH(cgroup);
	values[PM_TIME_RUN] = MEMBER(cgroup, bstat.cputime.sum_exec_runtime);
	values[PM_TIME_USER] = MEMBER(cgroup, bstat.cputime.utime);
	values[PM_TIME_SYSTEM] = MEMBER(cgroup, bstat.cputime.stime);
	set_shown(values, cgroup);
	return 0;
}
