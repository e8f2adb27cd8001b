/*
 * Which slots of the slab the kernel has as registered buffers.
 *
 * The kernel takes 16384 buffers of at most 1 GiB a ring.  While there are no more
 * slots than that, a slot is a buffer; beyond, `slots_a_buffer` neighbours make one,
 * and it is registered once all of them are faulted in, since registering pins
 * every page.
 *
 *	slots      |0 1 2|3 4 5|6 7 8|9      slots_a_buffer = 3
 *	buffers    |  0  |  1  |  2  |3
 *	missing       0     0     2   1      buffers 0 and 1 may be registered
 *
 * Only bookkeeping: the calls are in device_uring.c, whose lock guards this.
 */
#include "config.h"

#include "device/device_internal.h"

#include <errno.h>
#include <stdlib.h>

#include "base/assert.h"

#define BUFFERS_MAX 16384u
#define BUFFER_BYTES_MAX (1024ull * 1024 * 1024)

static uint64_t full_buffer_bytes(const struct slab *slab)
{
	return slab->slot_bytes * slab->slots_a_buffer;
}

static uint32_t slots_in(const struct slab *slab, uint32_t buffer)
{
	uint32_t rest = slab->slot_count - buffer * slab->slots_a_buffer;

	return rest < slab->slots_a_buffer ? rest : slab->slots_a_buffer;
}

int slab_init(struct slab *slab, void *base, uint32_t slot_bytes, uint32_t slot_count)
{
	ASSERT(!slab->base && slot_bytes > 0 && slot_count > 0);
	slab->base = base;
	slab->slot_bytes = slot_bytes;
	slab->slot_count = slot_count;
	slab->slots_a_buffer = (slot_count - 1) / BUFFERS_MAX + 1;
	slab->buffer_count = (slot_count - 1) / slab->slots_a_buffer + 1;
	if (full_buffer_bytes(slab) > BUFFER_BYTES_MAX)
		return -E2BIG;
	slab->missing = calloc(slab->buffer_count, sizeof(*slab->missing));
	slab->is_registered = calloc(slab->buffer_count, sizeof(*slab->is_registered));
	if (!slab->missing || !slab->is_registered)
		return -ENOMEM;
	for (uint32_t i = 0; i < slab->buffer_count; i++)
		slab->missing[i] = slots_in(slab, i);
	return 0;
}

void slab_fini(struct slab *slab)
{
	free(slab->missing);
	free(slab->is_registered);
	*slab = (struct slab){0};
}

void slab_fault_in(struct slab *slab, uint32_t first, uint32_t count)
{
	for (uint32_t i = first; i < first + count; i++) {
		uint32_t *missing = &slab->missing[i / slab->slots_a_buffer];

		*missing -= *missing > 0 ? 1 : 0;
	}
}

uint32_t slab_next_run(const struct slab *slab, uint32_t *first, uint32_t end,
    uint32_t count_max)
{
	uint32_t count = 0;

	while (*first < end && (slab->missing[*first] > 0 || slab->is_registered[*first]))
		(*first)++;
	while (count < count_max && *first + count < end &&
	    slab->missing[*first + count] == 0 && !slab->is_registered[*first + count])
		count++;
	return count;
}

uint32_t slab_buffer_at(const struct slab *slab, uint32_t slot)
{
	return slot / slab->slots_a_buffer;
}

uint8_t *slab_buffer_start(const struct slab *slab, uint32_t buffer)
{
	return slab->base + buffer * full_buffer_bytes(slab);
}

uint64_t slab_buffer_bytes(const struct slab *slab, uint32_t buffer)
{
	return slots_in(slab, buffer) * slab->slot_bytes;
}

void slab_set_registered(struct slab *slab, uint32_t first, uint32_t count)
{
	for (uint32_t i = first; i < first + count; i++)
		slab->is_registered[i] = true;
	slab->registered_count += count;
}

int slab_buffer_of(const struct slab *slab, const struct device_request *request)
{
	uint8_t *data = request->data;
	uint8_t *start;
	uint32_t buffer;

	if (request->slot >= slab->slot_count || slab->registered_count == 0)
		return -1;
	buffer = slab_buffer_at(slab, request->slot);
	start = slab_buffer_start(slab, buffer);
	if (!slab->is_registered[buffer] || data < start ||
	    data + request->bytes > start + slab_buffer_bytes(slab, buffer))
		return -1;
	return (int)buffer;
}
