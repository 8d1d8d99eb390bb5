/*
 * names: how everything is called that a move makes in databases.
 */
#include "move/names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "hypervault.h"

static const char prefix[] = "hypervault_";
static const char old_suffix[] = "_old";

void hvi_move_name(int shard, uint32_t id, bool is_old, char name[HVI_MOVE_NAME_LEN]) {
    snprintf(name, HVI_MOVE_NAME_LEN, "%s%04d_%08x%s", prefix, shard, (unsigned) id,
             is_old ? old_suffix : "");
}

bool hvi_move_name_read(const char *name, int *shard, uint32_t *id, bool *is_old) {
    int number = 0;
    unsigned read = 0;
    char again[HVI_MOVE_NAME_LEN];
    if (sscanf(name, "hypervault_%4d_%8x", &number, &read) != 2 || number < 0 ||
        number >= HV_SHARDS)
        return false;
    for (int old = 0; old < 2; old++) {
        /* Written again it must be the same: sscanf() passes over much. */
        hvi_move_name(number, read, old == 1, again);
        if (strcmp(name, again) != 0)
            continue;
        if (shard != NULL)
            *shard = number;
        if (id != NULL)
            *id = read;
        if (is_old != NULL)
            *is_old = old == 1;
        return true;
    }
    return false;
}

uint32_t hvi_move_new_id(void) {
    uint32_t id;
    /* Without a source of random bits, two moves of one shard must still differ: the time does. */
    if (getrandom(&id, sizeof id, GRND_NONBLOCK) != (ssize_t) sizeof id)
        id = (uint32_t) (hvi_clock_unix_us() / 1000);
    return id;
}

void hvi_move_names_of(int shard, uint32_t id, bool is_back, hvi_move_names *names) {
    hvi_schema_name(shard, names->live);
    hvi_move_name(shard, id, is_back, names->stream);
    hvi_move_name(shard, id, !is_back, names->retired);
}
