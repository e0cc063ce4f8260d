/* Writes a parsed exposition in protocol buffers. */
#ifndef PYMON_EXPOSITION_PROTOBUF_H
#define PYMON_EXPOSITION_PROTOBUF_H

#include "buffer.h"
#include "exposition_types.h"

/* Append the families of a text that was parsed to its end. Duplicate series are left out. The lines of a histogram or
 * summary follow one another, as agents write them; of two that are apart, the first is written. A summary whose count
 * is not an integer below 2^64 is left out, as the message has no other. start_ms: when all counters, histograms and
 * summaries were created, in milliseconds since the epoch; 0: not known. LC_NUMERIC must be that of C. Returns 0, or -1
 * if out of memory; then `out` has its previous content. */
int pm_exposition_protobuf(const pm_exposition *reader, uint64_t start_ms, pm_buffer *out);

#endif
