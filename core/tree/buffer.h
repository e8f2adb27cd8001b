/*
 * Bytes that grow, for keys put together on the way down.
 */
#ifndef HOLTFS_TREE_BUFFER_H
#define HOLTFS_TREE_BUFFER_H

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

struct tree_buffer {
	uint8_t *bytes;
	uint32_t used, size;
};

static inline int buffer_fit(struct tree_buffer *buffer, uint32_t bytes)
{
	uint32_t size = max_of(buffer->size, 256u);
	uint8_t *grown;

	if (bytes <= buffer->size)
		return 0;
	while (size < bytes)
		size *= 2;
	grown = realloc(buffer->bytes, size);
	if (!grown)
		return -ENOMEM;
	buffer->bytes = grown;
	buffer->size = size;
	return 0;
}

static inline int buffer_append(struct tree_buffer *buffer, const void *bytes, uint32_t count)
{
	int err = buffer_fit(buffer, buffer->used + count);

	if (!err && count) {
		memcpy(buffer->bytes + buffer->used, bytes, count);
		buffer->used += count;
	}
	return err;
}

#endif
