/*
 * Integers as stored on disk, and small arithmetic.
 *
 * le16, le32 and le64 are structures, so that assigning one to a plain integer
 * without converting it does not compile.  Keys use big-endian integers, which
 * sort as bytes: be64_store() and be64_load().
 */
#ifndef HOLTFS_BASE_BYTES_H
#define HOLTFS_BASE_BYTES_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct { uint16_t raw; } le16;
typedef struct { uint32_t raw; } le32;
typedef struct { uint64_t raw; } le64;

static inline le16 to_le16(uint16_t v) { return (le16){htole16(v)}; }
static inline le32 to_le32(uint32_t v) { return (le32){htole32(v)}; }
static inline le64 to_le64(uint64_t v) { return (le64){htole64(v)}; }
static inline uint16_t from_le16(le16 v) { return le16toh(v.raw); }
static inline uint32_t from_le32(le32 v) { return le32toh(v.raw); }
static inline uint64_t from_le64(le64 v) { return le64toh(v.raw); }

static inline void be64_store(void *to, uint64_t v)
{
	v = htobe64(v);
	memcpy(to, &v, sizeof(v));
}

static inline uint64_t be64_load(const void *from)
{
	uint64_t v;

	memcpy(&v, from, sizeof(v));
	return be64toh(v);
}

#define BIT(n) (1ull << (n))
#define ARRAY_COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define container_of(ptr, type, member)                                        \
	((type *)((char *)(ptr) - offsetof(type, member)))

#define min_of(a, b)                                                           \
	({                                                                     \
		__typeof__(a) a_ = (a);                                        \
		__typeof__(b) b_ = (b);                                        \
		a_ < b_ ? a_ : b_;                                             \
	})
#define max_of(a, b)                                                           \
	({                                                                     \
		__typeof__(a) a_ = (a);                                        \
		__typeof__(b) b_ = (b);                                        \
		a_ > b_ ? a_ : b_;                                             \
	})

/* @unit is a power of two. */
static inline uint64_t round_up(uint64_t v, uint64_t unit)
{
	return (v + unit - 1) & ~(unit - 1);
}

static inline uint64_t round_down(uint64_t v, uint64_t unit)
{
	return v & ~(unit - 1);
}

static inline bool is_aligned(uint64_t v, uint64_t unit)
{
	return (v & (unit - 1)) == 0;
}

static inline uint64_t div_up(uint64_t v, uint64_t unit)
{
	return (v + unit - 1) / unit;
}

#endif
