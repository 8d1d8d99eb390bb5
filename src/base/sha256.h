/*
 * sha256: the digest SHA-256 of bytes (FIPS 180-4), for files that must not change unnoticed.
 */
#ifndef HVI_SHA256_H
#define HVI_SHA256_H

#include <stddef.h>

/* 64 hexadecimal digits and a NUL. */
#define HVI_SHA256_LEN 65

void hvi_sha256(const void *bytes, size_t len, char digest[HVI_SHA256_LEN]);

#endif
