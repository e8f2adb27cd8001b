/*
 * Changes to a frame image, made of bytes: to header fields and to bytes of nodes, which
 * are counted from the root in the order in which they are found.
 */
#ifndef HOLTFS_TESTS_DAMAGE_H
#define HOLTFS_TESTS_DAMAGE_H

#include "tests/fuzz/fuzz.h"

/* Up to a byte 0xff or the input's end. */
void damage_image(void *image, struct fuzz_input *input);

#endif
