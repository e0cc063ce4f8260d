/* Domain names in lower case: parsed from messages or text, with a hash for each suffix. */
#ifndef PYMON_NAME_H
#define PYMON_NAME_H

#include <stddef.h>
#include <stdint.h>

enum { PM_NAME_MAX = 255, PM_LABEL_MAX = 63, PM_LABELS_MAX = 127 };

typedef struct {
	uint8_t len;		       /* octets of the wire form, with the zero octet of the root */
	uint8_t labels;		       /* number of labels, without the root */
	uint8_t at[PM_LABELS_MAX + 1]; /* offset of each label in the wire form; the last one is the root */
	uint8_t wire[PM_NAME_MAX];     /* lower case, not compressed */
} pm_name;

/* Parse a name in wire form. Returns the number of octets, or -1 for a malformed or compressed name. */
int pm_name_read(pm_name *name, const uint8_t *data, size_t len);

/* Parse an absolute name in master file format. Returns 0, or -1 if it is malformed or needs escapes. */
int pm_name_parse(pm_name *name, const char *text, size_t len);

/* Set hashes[i] to the hash of the name from label i on; hashes[labels] is for the root. The hash is keyed with two
 * random words, because tenants choose names. */
void pm_name_hashes(const pm_name *name, const uint64_t key[2], uint64_t hashes[PM_LABELS_MAX + 1]);

/* The hash of the name that consists of a label and a parent name. `above`: hash of the parent. */
uint64_t pm_name_hash(const uint8_t *label, size_t len, uint64_t above, const uint64_t key[2]);

/* Returns whether a label starts at this offset of the wire form. */
int pm_name_begins(const pm_name *name, size_t at);

#endif
