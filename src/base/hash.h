/*
 * hash: a keyed hash of bytes, so that an attacker cannot choose words that collide.
 *
 * SipHash-1-3 (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012) with a key drawn
 * once per process: the same bytes have the same hash within a process, and another in the next.
 */
#ifndef HVI_HASH_H
#define HVI_HASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t hvi_hash(const void *bytes, size_t len);

/* The same with the caller's key. */
uint64_t hvi_hash_keyed(const uint64_t key[2], const void *bytes, size_t len);

#endif
