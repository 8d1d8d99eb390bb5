/*
 * fuzz: declarations for all fuzz targets.
 */
#ifndef HV_TEST_FUZZ_H
#define HV_TEST_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* libFuzzer calls this with bytes of its choice; returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Unless this holds, print a message and abort, so that libFuzzer keeps the input. */
#define expect(condition)                                                                  \
    do {                                                                                   \
        if (!(condition)) {                                                                \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                                       \
        }                                                                                  \
    } while (0)

#endif
