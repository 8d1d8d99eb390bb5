/*
 * names: how everything is called that a move makes in databases. One place, so that all of it can
 * be found again, whatever was killed.
 *
 * A move has an id of 32 random bits. Its stream's objects (schema of the roots, slot and
 * publication on the publisher; subscription and schema of the copy on the subscriber) all have one
 * name. There are two of them, for the way there and the way back:
 *
 *     hypervault_0012_1a2b3c4d       the stream there, and the copy before the switch
 *     hypervault_0012_1a2b3c4d_old   the old copy after the switch, and the stream back to it
 *
 * Neither needs quotes, and nothing else has such names.
 */
#ifndef HVI_MOVE_NAMES_H
#define HVI_MOVE_NAMES_H

#include <stdbool.h>
#include <stdint.h>

#include "value/shard_map.h"

#define HVI_MOVE_NAME_LEN 40

/* The pattern of such names, for conditions in SQL with OPERATOR(pg_catalog.~), as a literal. */
#define HVI_MOVE_NAME_PATTERN "'^hypervault_[0-9]{4}_[0-9a-f]{8}(_old)?$'"

/* The pattern of the slots with which subscriptions copy tables, made by PostgreSQL. */
#define HVI_MOVE_TABLE_SLOT_PATTERN "'^pg_[0-9]+_sync_[0-9]+_[0-9]+$'"

/* The name of a move's objects. */
void hvi_move_name(int shard, uint32_t id, bool is_old, char name[HVI_MOVE_NAME_LEN]);

/* The other way: false if it is no such name. The last three may be NULL. */
bool hvi_move_name_read(const char *name, int *shard, uint32_t *id, bool *is_old);

/* A new id, at random. */
uint32_t hvi_move_new_id(void);

/* What one direction of a move's objects are called. */
typedef struct hvi_move_names {
    char live[HVI_SCHEMA_NAME_LEN];  /* "shard0012" */
    char stream[HVI_MOVE_NAME_LEN];  /* the stream's objects, and the copy that it writes to */
    char retired[HVI_MOVE_NAME_LEN]; /* the live schema of the publisher after the switch */
} hvi_move_names;

/* Of the way there, or of the way back. */
void hvi_move_names_of(int shard, uint32_t id, bool is_back, hvi_move_names *names);

#endif
