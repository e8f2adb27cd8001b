/* One change at a time: what kind, where, what. */
#include "config.h"

#include "tests/fuzz/damage.h"

#include <string.h>

#include "base/bytes.h"
#include "tree/node.h"

#define NODES_MAX 20000

static node_ref nodes[NODES_MAX];
static uint8_t is_found[FRAME_BYTES / NODE_UNIT / 8];

static uint32_t add_node(const void *image, uint32_t count, node_ref ref)
{
	if (count == NODES_MAX || !node_at(image, ref) || is_found[ref / 8] & 1u << ref % 8)
		return count;
	is_found[ref / 8] |= (uint8_t)(1u << ref % 8);
	nodes[count] = ref;
	return count + 1;
}

/* Nodes that can be reached, breadth first. */
static uint32_t find_nodes(const void *image)
{
	uint32_t count = 0;

	memset(is_found, 0, sizeof(is_found));
	count = add_node(image, count, from_le16(image_header_const(image)->root));
	for (uint32_t i = 0; i < count; i++) {
		const struct node_inner *inner = (const void *)node_at(image, nodes[i]);
		struct node_entry entry;

		if (!node_is_inner((const void *)inner))
			continue;
		count = add_node(image, count, from_le16(inner->terminal));
		for (unsigned from = 0; inner_next(image, inner, from, &entry); from = entry.hi + 1)
			count = add_node(image, count, entry.ref);
	}
	return count;
}

static void change_header(struct frame_header *header, struct fuzz_input *input)
{
	uint8_t field = fuzz_byte(input);
	uint32_t value = fuzz_number(input, 2);

	switch (field % 6) {
	case 0:
		header->root = to_le16((uint16_t)value);
		break;
	case 1:
		/* What is loaded has an end inside the frame. */
		header->heap_end = to_le32(FRAME_HEADER_BYTES + value % (IMAGE_CAPACITY / NODE_UNIT) * NODE_UNIT);
		break;
	case 2:
		header->heap_end = to_le32(FRAME_HEADER_BYTES + value * 8 % IMAGE_CAPACITY);
		break;
	case 3:
		header->live_bytes = to_le32(field & 128 ? 0u - value : value);
		break;
	case 4:
		header->node_count = to_le32(value);
		break;
	default:
		header->free_heads[field / 6 % FRAME_FREE_CLASSES] = to_le16((uint16_t)value);
	}
}

/* A byte of a node, or a reference of it: to another node, or to itself. */
static void change_node(void *image, uint32_t count, struct fuzz_input *input, uint8_t kind)
{
	uint32_t which = fuzz_number(input, 2), at = fuzz_byte(input);
	uint32_t value = fuzz_number(input, kind & 4 ? 2 : 1);
	uint32_t offset = (uint32_t)nodes[which % count] * NODE_UNIT;

	if (kind & 8)
		at = (at << 8 | fuzz_byte(input)) % node_bytes(node_at(image, nodes[which % count]));
	if (offset + at + 2 > FRAME_BYTES)
		return;
	if (kind & 4) {
		le16 ref = to_le16(kind & 16 ? (uint16_t)value : nodes[value % count]);

		memcpy((uint8_t *)image + offset + at, &ref, sizeof(ref));
	} else {
		((uint8_t *)image)[offset + at] = (uint8_t)value;
	}
}

void damage_image(void *image, struct fuzz_input *input)
{
	while (input->left && *input->at != 0xff) {
		uint8_t kind = fuzz_byte(input);
		uint32_t count = find_nodes(image);

		if (kind % 4 == 0 || !count)
			change_header(image, input);
		else
			change_node(image, count, input, kind);
	}
	fuzz_byte(input);
}
