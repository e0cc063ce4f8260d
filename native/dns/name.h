/* Domain names: read from a message or from text, lower-cased, with a hash for each of their suffixes. */
#ifndef PYMON_NAME_H
#define PYMON_NAME_H

#include <stddef.h>
#include <stdint.h>

enum { PM_NAME_MAX = 255, PM_LABEL_MAX = 63, PM_LABELS_MAX = 127 };

typedef struct {
	uint8_t len;		       /* of the wire form, with the root's zero octet */
	uint8_t labels;		       /* without the root */
	uint8_t at[PM_LABELS_MAX + 1]; /* where each label begins in the wire form; the last is the root's */
	uint8_t wire[PM_NAME_MAX];     /* lower case, never compressed */
} pm_name;

/* Read an uncompressed name (a pointer or an unknown kind of label is an error). The octets read, or -1. */
int pm_name_read(pm_name *name, const uint8_t *data, size_t len);

/* Read an absolute name as master files write it. 0, or -1: not one, or one with escapes or signs that need them. */
int pm_name_parse(pm_name *name, const char *text, size_t len);

/* hashes[i] is of the name from label i on, hashes[labels] of the root; keyed by two random words, since tenants choose
 * names. */
void pm_name_hashes(const pm_name *name, const uint64_t key[2], uint64_t hashes[PM_LABELS_MAX + 1]);

/* The hash of a label in front of a name with this hash. */
uint64_t pm_name_hash(const uint8_t *label, size_t len, uint64_t above, const uint64_t key[2]);

/* Whether a label begins at this octet of the wire form. */
int pm_name_begins(const pm_name *name, size_t at);

#endif
