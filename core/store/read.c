/*
 * Reading single keys, and how reads are tried again.
 *
 * Readers take no gate unless they were disturbed too often.  A frame that is not in
 * memory is loaded with nothing held, and the search goes on there, or begins again if
 * the tree has changed its shape.  If the manifest
 * does not know the frame, an edge was probably read that has changed since; only
 * under the gate, where edges stay, is that damage.
 */
#include "config.h"

#include "store/store_internal.h"

#include <errno.h>

#define LOST_FRAMES_MAX 4

static bool is_of_view(const struct attempt *attempt)
{
	return attempt->tree && attempt->tree->view;
}

void attempt_begin(struct attempt *attempt)
{
	if (is_of_view(attempt)) {
		/* Nobody changes what a view sees: it is as good as in the gate. */
		attempt->in_gate = true;
		return;
	}
	if (!attempt->in_gate)
		return;
	if (attempt->is_exclusive)
		gate_enter_exclusive(attempt->store->gate);
	else
		attempt->ticket = gate_enter_shared(attempt->store->gate);
}

static void leave_gate(struct attempt *attempt)
{
	if (attempt->is_exclusive)
		gate_leave_exclusive(attempt->store->gate);
	else
		gate_leave_shared(attempt->store->gate, attempt->ticket);
}

/* The frame may be found at another place from one moment to the next, not for ever. */
#define VIEW_LOST_MAX 1000

static bool view_attempt_again(struct attempt *attempt, int *err, const struct tree_need *need)
{
	bool was_lacking = *err == -EAGAIN;

	if (was_lacking)
		*err = view_load(attempt->tree, need->frame_id);
	if (was_lacking && *err == 0)
		return true;
	if (was_lacking && *err == -ENOENT) {
		*err = -EUCLEAN;
		return ++attempt->lost < VIEW_LOST_MAX;
	}
	if (*err == -ECANCELED)
		*err = -ESTALE;
	return false;
}

bool attempt_again(struct attempt *attempt, int *err, const struct tree_need *need)
{
	if (is_of_view(attempt))
		return view_attempt_again(attempt, err, need);
	if (attempt->in_gate) {
		if (*err == -EAGAIN)
			*err = store_check_need(attempt->store, need);
		leave_gate(attempt);
	}
	if (*err == -EBUSY) {
		atomic_fetch_add_explicit(&attempt->store->stats.fallbacks, 1, memory_order_relaxed);
		attempt->in_gate = true;
		return true;
	}
	if (*err != -EAGAIN)
		return false;
	*err = store_load_frame(attempt->store, need->frame_id);
	if (*err == 0)
		return true;
	if (*err != -ENOENT)
		return false;
	if (++attempt->lost > LOST_FRAMES_MAX)
		attempt->in_gate = true;
	return true;
}

/* How often a search on disk may be disturbed before frames are loaded. */
#define COLD_TRIES 8

/* In memory, and, where that is short, on disk. */
static int try_get(const struct attempt *attempt, struct tree *tree, const void *key, uint32_t key_bytes,
    void *value, uint32_t capacity, uint32_t *ret_bytes, uint64_t *ret_version, struct tree_need *need)
{
	for (unsigned tries = 0;; tries++) {
		int err = tree_get(tree, attempt->in_gate, key, key_bytes, value, capacity, ret_bytes,
		    ret_version, need);

		if (err != -EAGAIN || attempt->in_gate || tries == COLD_TRIES ||
		    !cold_is_better(attempt->store, need))
			return err;
		err = cold_get(attempt->store, tree, key, key_bytes, value, capacity, ret_bytes,
		    ret_version, need);
		if (err != -ESTALE)
			return err;
	}
}

int store_get_from(struct store *store, struct tree *tree, const void *key, uint32_t key_bytes,
    void *value, uint32_t capacity, uint32_t *ret_bytes, uint64_t *ret_version)
{
	struct attempt attempt = {.store = store, .tree = tree};
	struct tree_need need = {0};
	unsigned number = thread_number();
	int err;

	if (key_bytes == 0)
		return -EINVAL;
	counter_add(number, &store->counts[number].gets, 1);
	do {
		attempt_begin(&attempt);
		err = try_get(&attempt, tree, key, key_bytes, value, capacity, ret_bytes,
		    ret_version, &need);
	} while (attempt_again(&attempt, &err, &need));
	return err;
}

int store_get(struct store *store, const void *key, uint32_t key_bytes, void *value,
    uint32_t capacity, uint32_t *ret_bytes, uint64_t *ret_version)
{
	return store_get_from(store, &store->tree, key, key_bytes, value, capacity, ret_bytes, ret_version);
}

int store_longest_prefix_from(struct store *store, struct tree *tree, const void *key, uint32_t key_bytes,
    void *value, uint32_t capacity, struct tree_longest *ret)
{
	struct attempt attempt = {.store = store, .tree = tree, .is_exclusive = true};
	uint32_t most = 2 * pool_slot_count(store->pool);
	struct tree_longest longest = {0};
	struct tree_need need = {0};
	int err;

	for (uint32_t tries = 0; tree->view || tries < most; tries++) {
		attempt_begin(&attempt);
		err = tree_longest_prefix(tree, attempt.in_gate, key, key_bytes, &longest, value, capacity, &need);
		if (attempt_again(&attempt, &err, &need))
			continue;
		*ret = longest;
		return err;
	}
	return -EBUSY;
}

/* The frames of a way that is longer than the pool push each other out; in a view the search
 * goes on where it was. */
static int longest_prefix_in_view(struct store *store, const void *key, uint32_t key_bytes, void *value,
    uint32_t capacity, struct tree_longest *ret)
{
	struct store_view *view;
	int err;

	do {
		err = store_view_open(store, &view);
		if (err)
			return err;
		err = store_view_longest_prefix(view, key, key_bytes, value, capacity, ret);
		store_view_close(view);
	} while (err == -ESTALE);
	return err;
}

int store_longest_prefix(struct store *store, const void *key, uint32_t key_bytes,
    uint32_t *ret_key_bytes, void *value, uint32_t capacity, uint32_t *ret_bytes,
    uint64_t *ret_version)
{
	struct tree_longest longest;
	unsigned number = thread_number();
	int err;

	if (key_bytes == 0)
		return -EINVAL;
	counter_add(number, &store->counts[number].gets, 1);
	err = store_longest_prefix_from(store, &store->tree, key, key_bytes, value, capacity, &longest);
	if (err == -EBUSY)
		err = longest_prefix_in_view(store, key, key_bytes, value, capacity, &longest);
	if (err && err != -ERANGE)
		return err;
	*ret_key_bytes = longest.found_bytes;
	*ret_bytes = longest.value_bytes;
	if (ret_version)
		*ret_version = longest.version;
	return err;
}
