/* Renders tables as an exposition in OpenMetrics 2.0, without its last line: the samples of pm_render in another form.
 * https://prometheus.io/docs/specs/om/open_metrics_spec_2_0/ */
#ifndef PYMON_RENDER_OPENMETRICS2_H
#define PYMON_RENDER_OPENMETRICS2_H

#include "render_catalogue.h"

/* Append the exposition of a catalogue to `out`. A counter whose start is known has it behind its value. A histogram is
 * one sample; it is left out where its sum, its count or a bucket is missing. *lines counts its parts, as in the other
 * formats. The other arguments are those of pm_render. Returns 0, or -1 if out of memory; then `out` has its previous
 * content. */
int pm_render_openmetrics2(pm_buffer *out, const pm_proto_catalogue *catalogue, const pm_table *const *tables,
			   const pm_block *parents, uint32_t parent_count, const unsigned char *selected,
			   uint64_t *lines);

#endif
