#include "config.h"

#include "base/checksum.h"

#include <xxhash.h>

uint64_t checksum64(const void *data, size_t bytes, uint64_t seed)
{
	return XXH3_64bits_withSeed(data, bytes, seed);
}

uint32_t checksum32(const void *data, size_t bytes, uint64_t seed)
{
	return (uint32_t)checksum64(data, bytes, seed);
}
