#include "render.h"

static int render_sample(pm_buffer *out, const pm_sample *sample, const pm_table *table, const pm_block *parents,
			 uint32_t parent_count, uint64_t *lines)
{
	for (uint32_t row = 0; row < table->rows; row++) {
		const pm_row_labels *labels = &table->labels[row];
		pm_block block = {NULL, 0};
		size_t need;
		uint64_t value;
		char *p;

		if (!pm_table_has(table, row, sample->column))
			continue;
		if (sample->when != PM_NO_COLUMN && !pm_table_has(table, row, sample->when))
			continue;
		value = pm_table_get(table, row, sample->column);
		if (sample->minus != PM_NO_COLUMN) {
			uint64_t minus;
			if (!pm_table_has(table, row, sample->minus))
				continue;
			minus = pm_table_get(table, row, sample->minus);
			value = value > minus ? value - minus : 0;
		}
		if (sample->plus != PM_NO_COLUMN) {
			if (!pm_table_has(table, row, sample->plus))
				continue;
			value += pm_table_get(table, row, sample->plus);
		}
		if (labels->parent != PM_NO_PARENT) {
			/* A parent that has gone, or came after the labels were taken, has no line. */
			if (labels->parent >= parent_count || parents[labels->parent].data == NULL)
				continue;
			block = parents[labels->parent];
		}
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
				p--; /* the comma after the row's last label */
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
		for (uint32_t s = family->first; s < family->first + family->count; s++) {
			const pm_table *table = tables[samples[s].table];
			if (table && render_sample(out, &samples[s], table, parents, parent_count, lines) < 0)
				goto fail;
		}
		if (*lines == lines_before)
			out->len = before;
	}
	return 0;
fail:
	out->len = start;
	return -1;
}
