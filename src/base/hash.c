/*
 * hash: a keyed hash of bytes, so that an attacker cannot choose words that collide; and one that
 * is the same for ever.
 *
 * Holds always: the key is drawn before the first use and never changes after, so that threads
 * need no lock.
 */
#include "base/hash.h"

#include <endian.h>
#include <pthread.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static uint64_t process_key[2];

static void draw_key(void) {
    if (getrandom(process_key, sizeof process_key, GRND_NONBLOCK) == (ssize_t) sizeof process_key)
        return;
    /* Early in boot, or forbidden: the time and our load address are better than nothing. */
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    process_key[0] = (uint64_t) now.tv_sec ^ (uint64_t) now.tv_nsec << 32;
    process_key[1] = (uint64_t) (uintptr_t) &now ^ (uint64_t) (uintptr_t) process_key << 16;
}

static inline uint64_t rotate(uint64_t x, int bits) {
    return x << bits | x >> (64 - bits);
}

static inline void mix(uint64_t v[4]) {
    v[0] += v[1];
    v[2] += v[3];
    v[1] = rotate(v[1], 13) ^ v[0];
    v[3] = rotate(v[3], 16) ^ v[2];
    v[0] = rotate(v[0], 32);
    v[2] += v[1];
    v[0] += v[3];
    v[1] = rotate(v[1], 17) ^ v[2];
    v[3] = rotate(v[3], 21) ^ v[0];
    v[2] = rotate(v[2], 32);
}

/* One round for each word, and three at the end: hence "1-3". */
static inline void absorb(uint64_t v[4], uint64_t word) {
    v[3] ^= word;
    mix(v);
    v[0] ^= word;
}

uint64_t hvi_hash(const void *bytes, size_t len) {
    pthread_once(&key_once, draw_key);
    return hvi_hash_keyed(process_key, bytes, len);
}

uint64_t hvi_hash_keyed(const uint64_t key[2], const void *bytes, size_t len) {
    uint64_t v[4] = {
        key[0] ^ UINT64_C(0x736f6d6570736575),
        key[1] ^ UINT64_C(0x646f72616e646f6d),
        key[0] ^ UINT64_C(0x6c7967656e657261),
        key[1] ^ UINT64_C(0x7465646279746573),
    };
    const char *p = bytes;
    size_t left = len;
    uint64_t word;
    for (; left >= sizeof word; p += sizeof word, left -= sizeof word) {
        memcpy(&word, p, sizeof word);
        absorb(v, le64toh(word));
    }
    word = 0;
    if (left > 0)
        memcpy(&word, p, left);
    absorb(v, le64toh(word) ^ (uint64_t) len << 56);
    v[2] ^= 0xff;
    mix(v);
    mix(v);
    mix(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

uint64_t hvi_hash_fnv1a(const void *bytes, size_t len) {
    const unsigned char *p = bytes;
    uint64_t hash = UINT64_C(14695981039346656037);
    for (size_t i = 0; i < len; i++) {
        hash ^= p[i];
        hash *= UINT64_C(1099511628211);
    }
    return hash;
}
