/*
 * hash: a keyed hash of bytes, so that an attacker cannot choose words that collide; and one that
 * is the same for ever.
 *
 * The first is SipHash-1-3 (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012) with a
 * key drawn once per process: the same bytes have the same hash within a process, and another in
 * the next.
 */
#ifndef HVI_HASH_H
#define HVI_HASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t hvi_hash(const void *bytes, size_t len);

/* The same with the caller's key. */
uint64_t hvi_hash_keyed(const uint64_t key[2], const void *bytes, size_t len);

/*
 * FNV-1a with 64 bits (Fowler, Noll and Vo): the same in every process, for what is kept. Anyone
 * can choose bytes that collide.
 */
uint64_t hvi_hash_fnv1a(const void *bytes, size_t len);

#endif
