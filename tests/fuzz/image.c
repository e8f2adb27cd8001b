/*
 * One frame image of the tree, damaged.
 *
 * Input: puts and erasures that make an image; a byte 0xff; changes to the header and to
 * bytes of nodes; a byte 0xff; keys.  Whatever was changed, searching, looking at entries
 * and walking stay inside the image; and an image in which the walk finds nothing wrong
 * can be changed, packed and copied.
 */
#include "config.h"

#include "tests/fuzz/fuzz.h"

#include <string.h>

#include "base/bytes.h"
#include "tests/fuzz/damage.h"
#include "tree/image.h"
#include "tree/tree.h"

#define EDITS_MAX 300
#define KEYS_MAX 64
#define CROSSING_FRAME 4711

static uint8_t *image, *other;
static uint32_t *sizes;

/* ---- making ---------------------------------------------------------------------------- */

static uint32_t take_key(struct fuzz_input *input, uint8_t *key)
{
	uint32_t count = fuzz_key(input, key);

	/* Wide nodes want more than a few letters. */
	if (input->left && *input->at & 128)
		key[count - 1] = fuzz_byte(input);
	return count;
}

static void edit(struct fuzz_input *input, uint64_t seq)
{
	static const uint8_t value[600] = {1, 2, 3};
	uint8_t key[FUZZ_KEY_BYTES], kind = fuzz_byte(input);
	uint32_t count = take_key(input, key), bytes = kind & 64 ? 8u * (kind & 63) : kind & 15;
	struct image_path path;

	image_find(image, key, count, 0, &path);
	if (path.result == IMAGE_DAMAGED || path.result == IMAGE_CROSSING)
		return;
	if (kind & 128) {
		if (path.result == IMAGE_FOUND)
			image_erase(image, &path, key, count, 0, kind & 1 ? KEEP_ALL_ROOM : 0);
	} else if (image_room(image) >= image_put_room(count, bytes)) {
		image_put(image, &path, key, count, value, bytes, seq);
	}
}

static void add_crossing(unsigned lo, unsigned hi)
{
	node_ref root = from_le16(image_header(image)->root);
	node_ref crossing = image_new_crossing(image, lo, hi, CROSSING_FRAME);

	root = inner_add(image, root, lo, hi, crossing);
	image_header(image)->root = to_le16(root);
}

static void make(struct fuzz_input *input)
{
	uint8_t first = fuzz_byte(input);

	image_init(image, 1);
	/* Letters of keys are outside, or their searches end here. */
	if (first & 1)
		add_crossing(200, 210);
	for (unsigned i = 0; i < EDITS_MAX && input->left && *input->at != 0xff; i++)
		edit(input, i + 1);
	fuzz_byte(input);
}

/* ---- reading ---------------------------------------------------------------------------- */

static int see_leaf(void *ctx, const uint8_t *key, uint32_t key_bytes, const struct node *leaf)
{
	uint32_t *sum = ctx;

	for (uint32_t i = 0; i < key_bytes; i++)
		*sum += key[i];
	return 0;
}

static int see_crossing(void *ctx, const uint8_t *key, uint32_t key_bytes,
    const struct node_crossing *crossing)
{
	*(uint32_t *)ctx += (uint32_t)from_le64(crossing->frame_id);
	return 0;
}

static bool is_whole(const void *in)
{
	uint32_t sum = 0;
	const struct tree_visit visit = {&sum, see_leaf, see_crossing};
	const char *why;

	return tree_frame_walk(in, &visit, &why) == 0;
}

/* Bytes that are there are read: a sanitizer sees if they are not. */
static void search(const uint8_t *key, uint32_t count)
{
	uint8_t copy[1] = {0};
	struct image_path path;
	struct image_leaf leaf;

	image_find(image, key, count, 0, &path);
	if (path.result == IMAGE_CROSSING)
		(void)image_crossing(image, path.leaf);
	if (path.result != IMAGE_FOUND || image_leaf(image, path.leaf, &leaf) != IMAGE_FOUND)
		return;
	FUZZ_CHECK((uintptr_t)leaf.value + leaf.value_bytes <= (uintptr_t)image + FRAME_BYTES);
	for (uint32_t i = 0; i < leaf.value_bytes; i++)
		copy[0] ^= leaf.value[i];
}

/* Entries of every node that a reference of the input leads to. */
static void look_at_entries(node_ref ref)
{
	const struct node *node = node_at(image, ref);
	const struct node_inner *inner = (const void *)node;
	struct node_entry entry;
	unsigned count = 0;

	if (!node || !node_is_inner(node))
		return;
	for (unsigned from = 0; inner_next(image, inner, from, &entry); from = entry.hi + 1) {
		FUZZ_CHECK(entry.hi >= from && entry.hi < 256);
		FUZZ_CHECK(++count <= 256);
	}
	(void)inner_last(image, inner, &entry);
}

static void read_all(struct fuzz_input input)
{
	uint8_t key[FUZZ_KEY_BYTES];

	for (unsigned i = 0; i < KEYS_MAX && input.left; i++) {
		uint32_t count = take_key(&input, key);

		search(key, count);
		look_at_entries((node_ref)fuzz_number(&input, 2));
	}
	look_at_entries(from_le16(image_header(image)->root));
}

/* ---- changing ---------------------------------------------------------------------------- */

static void change_all(struct fuzz_input input)
{
	struct image_path path;
	uint8_t key[FUZZ_KEY_BYTES];
	bool is_damaged = false;

	FUZZ_CHECK(image_compact(other, image) == 0);
	FUZZ_CHECK(is_whole(other));
	image_sizes(other, sizes);
	FUZZ_CHECK(image_live_bytes(other) == image_live_bytes(image));
	for (unsigned i = 0; i < KEYS_MAX && input.left; i++)
		edit(&input, 1000 + i);
	FUZZ_CHECK(is_whole(image));
	while (input.left) {
		uint32_t count = take_key(&input, key);
		struct image_subtree subtree;

		image_find(image, key, count, 0, &path);
		if (path.result == IMAGE_DAMAGED ||
		    !image_find_subtree(image, key, count, &path, &subtree) || !subtree.parent)
			continue;
		image_init(other, 2);
		(void)image_copy(other, image, subtree.top, NULL, 0, subtree.skip, &is_damaged);
		FUZZ_CHECK(!is_damaged);
		image_detach(image, &subtree, key, count, 0, 0, (node_ref *)sizes);
	}
	FUZZ_CHECK(is_whole(image));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = {data, size};

	if (!image) {
		/* Each by itself, so that reading behind one is found. */
		image = aligned_alloc(4096, FRAME_BYTES);
		other = aligned_alloc(4096, FRAME_BYTES);
		sizes = malloc(IMAGE_SIZES_BYTES);
		FUZZ_CHECK(image && other && sizes);
		memset(image, 0, FRAME_BYTES);
	}
	make(&input);
	FUZZ_CHECK(is_whole(image));
	damage_image(image, &input);
	read_all(input);
	if (is_whole(image))
		change_all(input);
	return 0;
}
