/* Reading kernel files whole, over descriptors that stay open. */
#ifndef PYMON_KFILE_H
#define PYMON_KFILE_H

#include "buffer.h"

/* Read the file from its start into `buffer` (replacing its content). 0, or -errno. */
int pm_read_whole(int fd, pm_buffer *buffer);

/* Open `path` relative to `dir` read-only; the descriptor, or -errno. */
int pm_open_at(int dir, const char *path);

#endif
