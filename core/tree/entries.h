/*
 * Entries of inner nodes as bits of words, for walks over many of them.
 *
 * A walk keeps for each node a word of 64 bits, one for each entry still to visit, and
 * takes the lowest: of a node4 or node16 the bits are places in the sorted arrays; a
 * node48 or node256 has four words, whose bits are bytes of the key.
 *
 *   node16  bytes  d  e  g  k                node48  word 1: bytes 64..127
 *           mask   1  1  1  0 ...                    mask  0 1 0 0 1 1 ...
 *
 * Made for optimistic readers: any reference leads into the slab or the guard behind it
 * (16 bits, in units of 8 bytes), and a node's first 8 bytes are loaded at once, so that
 * a length is bounded and used as the same number.
 */
#ifndef HOLTFS_TREE_ENTRIES_H
#define HOLTFS_TREE_ENTRIES_H

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "tree/node.h"

/* References below are the header's. */
#define NODE_REF_FIRST (FRAME_HEADER_BYTES / NODE_UNIT)

/* What copy_bytes() and match_bytes() may touch behind the end. */
#define COPY_SLACK 32u

static inline const void *node_place(const void *image, node_ref ref)
{
	return (const char *)image + (uint32_t)ref * NODE_UNIT;
}

/* Where an inner node's prefix begins. */
static inline uint32_t inner_prefix_at(unsigned type)
{
	return type == NODE_4	? offsetof(struct node_4, prefix) :
	       type == NODE_16	? offsetof(struct node_16, prefix) :
	       type == NODE_48	? offsetof(struct node_48, prefix) :
				  offsetof(struct node_256, prefix);
}

/* ---- bytes -------------------------------------------------------------------------- */

/*
 * Bytes behind a node may be another's, or be cleared by a checkpoint: what is read there
 * is never used, but ThreadSanitizer cannot know.
 */
#if defined(__SSE2__) && !defined(SANITIZE_THREAD)
#define READS_BEHIND 1
#endif

/* Copies in steps of 16: may read and write COPY_SLACK bytes more. */
static inline void copy_bytes(uint8_t *to, const uint8_t *from, size_t bytes)
{
#ifdef READS_BEHIND
	size_t at = 0;

	do {
		_mm_storeu_si128((__m128i *)(to + at), _mm_loadu_si128((const __m128i *)(from + at)));
		at += 16;
	} while (at < bytes);
#else
	memcpy(to, from, bytes);
#endif
}

/* How many of the first @bytes bytes are equal; may read COPY_SLACK bytes more. */
static inline uint32_t match_bytes(const uint8_t *a, const uint8_t *b, uint32_t bytes)
{
	uint32_t at = 0;

#ifdef READS_BEHIND
	for (; at < bytes; at += 16) {
		__m128i equal = _mm_cmpeq_epi8(_mm_loadu_si128((const __m128i *)(a + at)),
		    _mm_loadu_si128((const __m128i *)(b + at)));
		unsigned differ = ~(unsigned)_mm_movemask_epi8(equal) & 0xffff;

		if (differ)
			return min_of(at + (uint32_t)__builtin_ctz(differ), bytes);
	}
	return bytes;
#else
	while (at < bytes && a[at] == b[at])
		at++;
	return at;
#endif
}

/* ---- words of entries ------------------------------------------------------------------ */

#define ENTRY_WORDS 4u

static inline uint64_t words_of_48(const struct node_48 *node, unsigned word)
{
	const uint8_t *index = node->index + 64 * word;
	uint64_t mask = 0;

#ifdef __SSE2__
	for (unsigned i = 0; i < 4; i++) {
		__m128i bytes = _mm_loadu_si128((const __m128i *)(index + 16 * i));
		unsigned none = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(bytes, _mm_setzero_si128()));

		mask |= (uint64_t)(~none & 0xffff) << 16 * i;
	}
#else
	for (unsigned i = 0; i < 64; i++)
		mask |= (uint64_t)(index[i] != 0) << i;
#endif
	return mask;
}

static inline uint64_t words_of_256(const struct node_256 *node, unsigned word)
{
	const le16 *refs = node->refs + 64 * word;
	uint64_t mask = 0;

#ifdef __SSE2__
	for (unsigned i = 0; i < 4; i++) {
		const __m128i *at = (const __m128i *)(refs + 16 * i);
		__m128i lower = _mm_cmpeq_epi16(_mm_loadu_si128(at), _mm_setzero_si128());
		__m128i upper = _mm_cmpeq_epi16(_mm_loadu_si128(at + 1), _mm_setzero_si128());
		unsigned none = (unsigned)_mm_movemask_epi8(_mm_packs_epi16(lower, upper));

		mask |= (uint64_t)(~none & 0xffff) << 16 * i;
	}
#else
	for (unsigned i = 0; i < 64; i++)
		mask |= (uint64_t)(from_le16(refs[i]) != 0) << i;
#endif
	return mask;
}

/* Word @word of a node48 or node256. */
static inline uint64_t entry_word(const void *node, unsigned type, unsigned word)
{
	return type == NODE_48 ? words_of_48(node, word) : words_of_256(node, word);
}

/* All places of a node4 or node16; a count from disk may be anything. */
static inline uint64_t sorted_places(uint64_t head)
{
	unsigned most = head_type(head) == NODE_4 ? 4 : 16;

	return (1ull << min_of(head_count(head), most)) - 1;
}

/* How many of a node4's or node16's bytes are not above @byte. */
static inline unsigned sorted_not_above(const void *node, uint64_t head, uint8_t byte)
{
	const uint8_t *bytes = (const uint8_t *)node + sizeof(struct node_inner);
	unsigned mask = 0;

#ifdef __SSE2__
	/* Of a node4 the bytes behind the fourth are masked away. */
	__m128i have = _mm_loadu_si128((const __m128i *)bytes);
	__m128i want = _mm_set1_epi8((char)byte);

	mask = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_min_epu8(have, want), have));
#else
	for (unsigned i = 0; i < (head_type(head) == NODE_4 ? 4 : 16); i++)
		mask |= (unsigned)(bytes[i] <= byte) << i;
#endif
	mask &= (unsigned)sorted_places(head);
	/* They are sorted: ones, then zeros.  (Counting bits is a call without SSE4.) */
	return (unsigned)__builtin_ctz(~mask);
}

static inline node_ref sorted_ref(const void *node, unsigned type, unsigned place)
{
	return from_le16(type == NODE_4 ? ((const struct node_4 *)node)->refs[place & 3] :
					  ((const struct node_16 *)node)->refs[place & 15]);
}

static inline uint8_t sorted_byte(const void *node, unsigned place)
{
	return ((const uint8_t *)node)[sizeof(struct node_inner) + place];
}

/* The child of a node48 or node256 for @byte, or 0. */
static inline node_ref indexed_ref(const void *node, unsigned type, unsigned byte)
{
	const struct node_48 *node_48 = node;
	unsigned place;

	if (type == NODE_256)
		return from_le16(((const struct node_256 *)node)->refs[byte]);
	place = node_48->index[byte];
	return place - 1u < 48 ? from_le16(node_48->refs[place - 1]) : 0;
}

#endif
