#include "render.h"

static inline int render_rows(pm_buffer *out, const pm_sample *sample, const pm_table *table, uint32_t first,
			      uint32_t end, const pm_block *parents, uint32_t parent_count, uint64_t *lines)
{
	for (uint32_t row = first; row < end; row++) {
		const pm_row_labels *labels = &table->labels[row];
		pm_block block = {NULL, 0};
		size_t need;
		uint64_t value;
		char *p;

		if (!pm_row_cell(sample, table, row, &value) || !pm_row_parent(labels, parents, parent_count))
			continue;
		if (labels->parent != PM_NO_PARENT)
			block = parents[labels->parent];
		need = (size_t)sample->prefix_len + sample->bare_len + labels->len + block.len + PM_DECIMAL_MAX + 4;
		if (pm_buffer_reserve(out, need) < 0)
			return -1;
		p = out->data + out->len;
		if (labels->len == 0 && block.len == 0) {
			memcpy(p, sample->bare, sample->bare_len);
			p += sample->bare_len;
		} else {
			memcpy(p, sample->prefix, sample->prefix_len);
			p += sample->prefix_len;
			if (labels->len) {
				memcpy(p, table->arena.data + labels->offset, labels->len);
				p += labels->len;
			}
			if (block.len) {
				memcpy(p, block.data, block.len);
				p += block.len;
			} else {
				p--; /* remove the comma after the row's last label */
			}
			*p++ = '}';
		}
		*p++ = ' ';
		p += pm_decimal(p, value, &sample->scale);
		*p++ = '\n';
		out->len = (size_t)(p - out->data);
		*lines += 1;
	}
	return 0;
}

static int render_family(pm_buffer *out, const pm_family *family, const pm_sample *samples,
			 const pm_table *const *tables, const pm_block *parents, uint32_t parent_count, uint64_t *lines)
{
	const pm_sample *end = samples + family->first + family->count;

	for (const pm_sample *sample = samples + family->first; sample < end; sample++) {
		const pm_table *table = tables[sample->table];

		if (table && render_rows(out, sample, table, 0, table->rows, parents, parent_count, lines) < 0)
			return -1;
	}
	return 0;
}

static int render_family_by_row(pm_buffer *out, const pm_family *family, const pm_sample *samples,
				const pm_table *const *tables, const pm_block *parents, uint32_t parent_count,
				uint64_t *lines)
{
	const pm_sample *first = samples + family->first;
	const pm_table *table = tables[first->table];

	for (uint32_t row = 0; table && row < table->rows; row++)
		for (uint32_t i = 0; i < family->count; i++)
			if (render_rows(out, first + i, table, row, row + 1, parents, parent_count, lines) < 0)
				return -1;
	return 0;
}

int pm_render(pm_buffer *out, const pm_family *families, uint32_t family_count, const pm_sample *samples,
	      const pm_table *const *tables, const pm_block *parents, uint32_t parent_count,
	      const unsigned char *selected, uint64_t *lines)
{
	size_t start = out->len;

	*lines = 0;
	for (uint32_t i = 0; i < family_count; i++) {
		const pm_family *family = &families[i];
		size_t before = out->len;
		uint64_t lines_before = *lines;

		if (selected && !selected[i])
			continue;
		if (pm_buffer_append(out, family->header, family->header_len) < 0)
			goto fail;
		if ((family->by_row ? render_family_by_row : render_family)(out, family, samples, tables, parents,
									    parent_count, lines) < 0)
			goto fail;
		if (*lines == lines_before)
			out->len = before;
	}
	return 0;
fail:
	out->len = start;
	return -1;
}
