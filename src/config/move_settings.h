/*
 * move_settings: the settings of a server that are for moving shards, and are none of libpq's.
 *
 * A setting here becomes a parameter of libpq in the connection string of a subscription, on
 * another server (see move_conninfo). A new one is a line here and a row in docs/config.md (a test
 * compares the two).
 */
#ifndef HVI_MOVE_SETTINGS_H
#define HVI_MOVE_SETTINGS_H

#include <stdbool.h>

typedef enum hvi_move_setting {
    HVI_MOVE_HOST,
    HVI_MOVE_PORT,
    HVI_MOVE_USER,
    HVI_MOVE_PASSWORD,
    HVI_MOVE_PASSFILE,
    HVI_MOVE_SSLMODE,
    HVI_MOVE_SSLROOTCERT,
    HVI_MOVE_SSLCERT,
    HVI_MOVE_SSLKEY,
    HVI_MOVE_SETTINGS
} hvi_move_setting;

typedef struct hvi_move_setting_row {
    const char *name;    /* as a server's setting */
    const char *keyword; /* libpq's */
    bool is_secret;
} hvi_move_setting_row;

/* By hvi_move_setting. */
extern const hvi_move_setting_row hvi_move_setting_table[HVI_MOVE_SETTINGS];

/* The setting of this name, or HVI_MOVE_SETTINGS. */
hvi_move_setting hvi_move_setting_find(const char *name);

#endif
