/*
 * move_settings: the settings of a server that are for moving shards, and are none of libpq's.
 */
#include "config/move_settings.h"

#include <string.h>

/* A password is not passed on by itself, since others may read it there; paths are not the same on
 * another machine. */
const hvi_move_setting_row hvi_move_setting_table[HVI_MOVE_SETTINGS] = {
    [HVI_MOVE_HOST] = {"move_host", "host", false},
    [HVI_MOVE_PORT] = {"move_port", "port", false},
    [HVI_MOVE_USER] = {"move_user", "user", false},
    [HVI_MOVE_PASSWORD] = {"move_password", "password", true},
    [HVI_MOVE_PASSFILE] = {"move_passfile", "passfile", false},
    [HVI_MOVE_SSLMODE] = {"move_sslmode", "sslmode", false},
    [HVI_MOVE_SSLROOTCERT] = {"move_sslrootcert", "sslrootcert", false},
    [HVI_MOVE_SSLCERT] = {"move_sslcert", "sslcert", false},
    [HVI_MOVE_SSLKEY] = {"move_sslkey", "sslkey", false},
};

hvi_move_setting hvi_move_setting_find(const char *name) {
    int i = 0;
    while (i < HVI_MOVE_SETTINGS && strcmp(hvi_move_setting_table[i].name, name) != 0)
        i++;
    return (hvi_move_setting) i;
}
