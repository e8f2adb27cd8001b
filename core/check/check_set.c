/*
 * A sparse set of 64-bit numbers: blocks, frame ids, inode numbers.
 *
 * A hash table, open addressing with linear probing, of chunks of 4096 bits.  Numbers
 * in use are dense, so a set costs little more than a bit a number: all blocks of an
 * 8 TiB volume fit in 280 MiB, ten million inode numbers in 1.4 MiB.  Numbers that a
 * damaged volume scatters cost half a KiB each.
 */
#include "config.h"

#include "check/check_internal.h"

#include <errno.h>
#include <stdlib.h>

#define CHUNK_BITS 4096u
#define SLOTS_MIN 64u

struct number_chunk {
	uint64_t number; /* of the chunk: its first number / CHUNK_BITS */
	uint64_t bits[CHUNK_BITS / 64];
};

static uint32_t slot_of(uint32_t slot_count, uint64_t number)
{
	return (uint32_t)((number * 0x9e3779b97f4a7c15ull) >> 32) & (slot_count - 1);
}

static struct number_chunk **find_slot(struct number_chunk **slots, uint32_t slot_count, uint64_t number)
{
	uint32_t slot = slot_of(slot_count, number);

	while (slots[slot] && slots[slot]->number != number)
		slot = (slot + 1) & (slot_count - 1);
	return &slots[slot];
}

static struct number_chunk *find_chunk(struct number_set *set, uint64_t number)
{
	struct number_chunk *chunk;

	if (set->last && set->last->number == number)
		return set->last;
	if (set->slot_count == 0)
		return NULL;
	chunk = *find_slot(set->slots, set->slot_count, number);
	if (chunk)
		set->last = chunk;
	return chunk;
}

/* At most three quarters of the slots are taken. */
static int grow(struct number_set *set)
{
	uint32_t slot_count = max_of(set->slot_count * 2, SLOTS_MIN);
	struct number_chunk **slots;

	if (set->chunk_count < set->slot_count / 4 * 3)
		return 0;
	slots = calloc(slot_count, sizeof(slots[0]));
	if (!slots)
		return -ENOMEM;
	for (uint32_t i = 0; i < set->slot_count; i++) {
		if (set->slots[i])
			*find_slot(slots, slot_count, set->slots[i]->number) = set->slots[i];
	}
	free(set->slots);
	set->slots = slots;
	set->slot_count = slot_count;
	return 0;
}

static struct number_chunk *make_chunk(struct number_set *set, uint64_t number)
{
	struct number_chunk *chunk;

	if (grow(set))
		return NULL;
	chunk = calloc(1, sizeof(*chunk));
	if (!chunk)
		return NULL;
	chunk->number = number;
	*find_slot(set->slots, set->slot_count, number) = chunk;
	set->chunk_count++;
	set->last = chunk;
	return chunk;
}

int number_set_add(struct number_set *set, uint64_t number, bool *ret_was_in)
{
	struct number_chunk *chunk = find_chunk(set, number / CHUNK_BITS);
	unsigned word = (unsigned)(number % CHUNK_BITS / 64);

	if (!chunk)
		chunk = make_chunk(set, number / CHUNK_BITS);
	if (!chunk)
		return -ENOMEM;
	*ret_was_in = chunk->bits[word] & BIT(number % 64);
	chunk->bits[word] |= BIT(number % 64);
	return 0;
}

bool number_set_has(struct number_set *set, uint64_t number)
{
	struct number_chunk *chunk = find_chunk(set, number / CHUNK_BITS);

	return chunk && (chunk->bits[number % CHUNK_BITS / 64] & BIT(number % 64));
}

void number_set_remove(struct number_set *set, uint64_t number)
{
	struct number_chunk *chunk = find_chunk(set, number / CHUNK_BITS);

	if (chunk)
		chunk->bits[number % CHUNK_BITS / 64] &= ~BIT(number % 64);
}

void number_set_fini(struct number_set *set)
{
	for (uint32_t i = 0; i < set->slot_count; i++)
		free(set->slots[i]);
	free(set->slots);
	*set = (struct number_set){0};
}
