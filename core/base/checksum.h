/*
 * Checksums: XXH3 (Yann Collet, https://xxhash.com), seeded, so that equal bytes
 * in another volume or at another place do not verify.
 */
#ifndef HOLTFS_BASE_CHECKSUM_H
#define HOLTFS_BASE_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

uint64_t checksum64(const void *data, size_t bytes, uint64_t seed);

/* The low 32 bits of checksum64(). */
uint32_t checksum32(const void *data, size_t bytes, uint64_t seed);

#endif
