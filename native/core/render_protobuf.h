/* Renders tables as an exposition in protocol buffers: the samples of pm_render in another form. */
#ifndef PYMON_RENDER_PROTOBUF_H
#define PYMON_RENDER_PROTOBUF_H

#include "proto_metric.h"
#include "render_catalogue.h"

/* Append the exposition of a catalogue to `out`. The other arguments are those of pm_render. Returns 0, or -1 if out of
 * memory; then `out` has its previous content. */
int pm_render_protobuf(pm_buffer *out, const pm_proto_catalogue *catalogue, const pm_table *const *tables,
		       const pm_block *parents, uint32_t parent_count, const unsigned char *selected, uint64_t *lines);

#endif
