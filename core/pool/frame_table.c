/*
 * The frame table: from a frame key to its live slot.
 *
 * Frame numbers are dense (a volume counts its frames from 0, frame ids are
 * issued in order and used again), so this is an array and not a hash: look-up is
 * two loads, never a collision, never a resize.
 *
 *   chunks[kind]                       4096 entries of slot + 1
 *   +---+---+---+--- - - ---+         +----+----+----+--- - - ---+
 *   | . |NULL| . |    4096  |  -----> |  0 | 18 |  3 |           |
 *   +---+---+---+--- - - ---+         +----+----+----+--- - - ---+
 *     number / 4096                     number % 4096
 *
 * 1. A chunk is allocated zeroed when its first number is published, put in place
 *    by compare-exchange (the loser frees its own) and never freed while the pool
 *    is open: a reader needs no protection from reclamation.
 * 2. An entry changes from 0 to a slot by compare-exchange, so of several
 *    publishers of one key exactly one wins.
 * 3. An entry that names a slot is changed only by who holds the exclusive latch
 *    of that slot (move, remove): plain stores suffice there.
 * 4. move is one store: a look-up sees the old slot or the new one.
 * 5. An entry is a hint.  Who uses it latches the slot (or takes its version) and
 *    then compares the owner word.
 *
 * Numbers from 2^24 on are in no volume of this format (254^3 slots and ids).  A
 * number read from a damaged disk may be anything: it is simply never found.
 *
 * Every entry is 4 bytes: a full pool of 16 million numbers would take 64 MiB a
 * kind, a 100 GB volume 800 KiB.
 */
#include "config.h"

#include "pool/pool_internal.h"

#include <errno.h>
#include <stdlib.h>

#include "base/assert.h"

void frame_table_fini(struct frame_table *table)
{
	for (unsigned kind = 0; kind < FRAME_KINDS; kind++)
		for (unsigned i = 0; i < TABLE_CHUNKS; i++)
			free(atomic_load(&table->chunks[kind][i]));
}

static _Atomic(struct table_chunk *) *chunk_place(struct frame_table *table,
    frame_key key)
{
	uint64_t number = frame_key_number(key);

	if (number >= TABLE_NUMBERS || frame_key_kind(key) >= FRAME_KINDS)
		return NULL;
	return &table->chunks[frame_key_kind(key)][number / TABLE_CHUNK_ENTRIES];
}

static _Atomic uint32_t *entry_find(struct frame_table *table, frame_key key)
{
	_Atomic(struct table_chunk *) *place = chunk_place(table, key);
	struct table_chunk *chunk;

	if (!place)
		return NULL;
	chunk = atomic_load_explicit(place, memory_order_acquire);
	if (!chunk)
		return NULL;
	return &chunk->entries[frame_key_number(key) % TABLE_CHUNK_ENTRIES];
}

static int chunk_add(_Atomic(struct table_chunk *) *place)
{
	struct table_chunk *fresh = calloc(1, sizeof(*fresh));
	struct table_chunk *seen = NULL;

	if (!fresh)
		return -ENOMEM;
	if (!atomic_compare_exchange_strong(place, &seen, fresh))
		free(fresh);
	return 0;
}

uint32_t frame_table_find(struct frame_table *table, frame_key key)
{
	_Atomic uint32_t *entry = entry_find(table, key);

	if (!entry)
		return POOL_NO_SLOT;
	/* 0, no slot, wraps to POOL_NO_SLOT. */
	return atomic_load_explicit(entry, memory_order_acquire) - 1;
}

int frame_table_insert(struct frame_table *table, frame_key key, uint32_t slot)
{
	_Atomic(struct table_chunk *) *place = chunk_place(table, key);
	_Atomic uint32_t *entry;
	uint32_t seen = 0;
	int err;

	if (!place)
		return -EINVAL;
	if (!atomic_load_explicit(place, memory_order_acquire)) {
		err = chunk_add(place);
		if (err)
			return err;
	}
	entry = entry_find(table, key);
	if (!atomic_compare_exchange_strong(entry, &seen, slot + 1))
		return -EEXIST;
	return 0;
}

void frame_table_move(struct frame_table *table, frame_key key, uint32_t old,
    uint32_t new)
{
	_Atomic uint32_t *entry = entry_find(table, key);

	ASSERT(entry && atomic_load(entry) == old + 1);
	atomic_store_explicit(entry, new + 1, memory_order_release);
}

void frame_table_remove(struct frame_table *table, frame_key key, uint32_t slot)
{
	_Atomic uint32_t *entry = entry_find(table, key);

	ASSERT(entry && atomic_load(entry) == slot + 1);
	atomic_store_explicit(entry, 0, memory_order_release);
}
