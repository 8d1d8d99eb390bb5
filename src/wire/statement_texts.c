/*
 * statement_texts: the texts of statements that are made while the program runs.
 */
#include "wire/statement_texts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

#define NAME_LEN 16

typedef struct hvi_statement_text {
    struct hvi_statement_text *next; /* in its bucket */
    uint64_t hash;
    size_t len;
    char name[NAME_LEN];
    char text[];
} hvi_statement_text;

/* The texts are there in the child, too. */
static void fork_child(hvi_fork_member *member) {
    (void) member;
}

hv_status hvi_statement_texts_init(hvi_statement_texts *texts, hv_error **error) {
    *texts = (hvi_statement_texts){0};
    if (pthread_mutex_init(&texts->lock, NULL) != 0)
        return hvi_no_memory(error);
    texts->fork.lock = &texts->lock;
    texts->fork.child = fork_child;
    hvi_fork_join(&texts->fork);
    return HV_OK;
}

void hvi_statement_texts_fini(hvi_statement_texts *texts) {
    hvi_fork_leave(&texts->fork);
    for (size_t i = 0; i < HVI_STATEMENT_TEXT_BUCKETS; i++)
        for (hvi_statement_text *one = texts->buckets[i], *next; one != NULL; one = next) {
            next = one->next;
            free(one);
        }
    pthread_mutex_destroy(&texts->lock);
}

/* Under the lock. NULL if there is no room. */
static hvi_statement_text *add(hvi_statement_texts *texts, const char *what, uint64_t hash,
                               const char *text, size_t len) {
    if (texts->count == HVI_STATEMENT_TEXTS_MAX ||
        texts->bytes + len > HVI_STATEMENT_TEXTS_MAX_BYTES)
        return NULL;
    hvi_statement_text *made = malloc(sizeof *made + len);
    if (made == NULL)
        return NULL;
    hvi_statement_text **bucket = &texts->buckets[hash % HVI_STATEMENT_TEXT_BUCKETS];
    made->next = *bucket;
    made->hash = hash;
    made->len = len;
    snprintf(made->name, sizeof made->name, "%.8s_%zu", what, ++texts->count);
    memcpy(made->text, text, len);
    texts->bytes += len;
    *bucket = made;
    return made;
}

const char *hvi_statement_texts_name(hvi_statement_texts *texts, const char *what, const char *text,
                                     size_t len) {
    uint64_t hash = hvi_hash(text, len);
    pthread_mutex_lock(&texts->lock);
    hvi_statement_text *one = texts->buckets[hash % HVI_STATEMENT_TEXT_BUCKETS];
    while (one != NULL &&
           (one->hash != hash || one->len != len || memcmp(one->text, text, len) != 0))
        one = one->next;
    if (one == NULL)
        one = add(texts, what, hash, text, len);
    pthread_mutex_unlock(&texts->lock);
    return one != NULL ? one->name : NULL;
}
