/*
 * The free list: a lock-free stack of slot numbers (R. K. Treiber, "Systems
 * programming: coping with parallelism", IBM RJ 5118, 1986).
 *
 *   head   63           32 31            0        next[]
 *         +---------------+---------------+      +---+---+---+---+---+
 *         |      tag      |   slot + 1    | -+   | 0 | . | 1 | . | 3 |   0: end
 *         +---------------+---------------+  |   +---+---+---+---+---+
 *                                            +-> slot 4 -> slot 2 -> slot 0
 *
 * 1. next[] is an array of its own and never unmapped while the list lives, so a
 *    slow popper that reads next[] of a slot already taken reads a stale number,
 *    not foreign memory.
 * 2. Every push and every pop adds one to the tag.  A popper that read head
 *    {t, s} and next[s] installs that next only if head still is {t, s}: no other
 *    operation succeeded in between, hence next[s] was still the successor of s.
 *    Without the tag, others could pop s and its successor and push s back, and
 *    the stale successor would be handed out twice ("ABA").  The tag wraps after
 *    2^32 operations: only a popper asleep for exactly a multiple of that many
 *    operations, with the same slot on top again, would be deceived.
 * 3. Push stores next[s] and everything its caller did to the slot before the
 *    compare-exchange on head; pop's load of head acquires it.  Later operations
 *    on head are read-modify-writes and so continue the release sequence: a pop
 *    that reads a head written by another pop still synchronises with the push
 *    that put the slot there.
 * 4. Operations on head are sequentially consistent rather than just release and
 *    acquire, because pool_wait() compares "list is empty" with "nobody waits"
 *    (pool.c); on x86 this costs nothing extra.
 *
 * Progress: lock-free.  A compare-exchange fails only because another push or pop
 * succeeded (or, on LL/SC machines, spuriously).  Nobody waits for a stalled
 * thread.
 */
#include "config.h"

#include "pool/pool_internal.h"

#include <errno.h>
#include <stdlib.h>

#define INDEX_MASK 0xffffffffull
#define TAG_ONE	   BIT(32)

static uint64_t head_make(uint64_t old_head, uint32_t index)
{
	return ((old_head & ~INDEX_MASK) + TAG_ONE) | index;
}

int free_list_init(struct free_list *list, uint32_t slot_count)
{
	list->next = calloc(slot_count, sizeof(list->next[0]));
	atomic_init(&list->head, 0);
	return list->next ? 0 : -ENOMEM;
}

void free_list_fini(struct free_list *list)
{
	free(list->next);
	list->next = NULL;
}

void free_list_push(struct free_list *list, uint32_t slot)
{
	uint64_t head = atomic_load_explicit(&list->head, memory_order_relaxed);

	do {
		atomic_store_explicit(&list->next[slot],
		    (uint32_t)(head & INDEX_MASK), memory_order_relaxed);
	} while (!atomic_compare_exchange_weak(&list->head, &head,
	    head_make(head, slot + 1)));
}

uint32_t free_list_pop(struct free_list *list)
{
	uint64_t head = atomic_load(&list->head);
	uint32_t slot, next;

	do {
		if ((head & INDEX_MASK) == 0)
			return POOL_NO_SLOT;
		slot = (uint32_t)(head & INDEX_MASK) - 1;
		next = atomic_load_explicit(&list->next[slot],
		    memory_order_relaxed);
	} while (!atomic_compare_exchange_weak(&list->head, &head,
	    head_make(head, next)));
	return slot;
}

bool free_list_is_empty(struct free_list *list)
{
	return (atomic_load_explicit(&list->head, memory_order_relaxed) & INDEX_MASK) == 0;
}
