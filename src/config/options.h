/*
 * options: the hv_options object: values of options, servers with their parameters and shards,
 * callbacks.
 */
#ifndef HVI_OPTIONS_H
#define HVI_OPTIONS_H

#include "base/interrupt.h"
#include "value/shard_map.h"
#include "value/spread.h"
#include "config/move_settings.h"
#include "config/option_table.h"

typedef struct hvi_server_options {
    char *name;
    /* libpq's parameters, in two arrays that PQconnectStartParams() takes: each `count` strings,
     * all owned, then NULL. */
    char **keywords;
    char **values;
    size_t count;
    const char *dbname_given_as;   /* "dbname" or "database"; NULL: not given */
    char *move[HVI_MOVE_SETTINGS]; /* by hvi_move_setting; owned; NULL: not set */
    bool is_auto;                  /* it holds what its database says that it holds */
} hvi_server_options;

struct hv_options {
    int64_t values[HVI_OPTION_COUNT];
    char *texts[HVI_OPTION_COUNT]; /* as they were set; NULL: the default */
    hvi_server_options *servers;   /* owned */
    int server_count;
    hvi_shard_map map; /* shard → index in servers */
    hv_log_fn log;     /* NULL: none */
    void *log_context;
    bool has_connector;
    hv_connector connector;
    hvi_interrupt interrupt;
};

/* A copy, owned by the caller; NULL if memory is short. */
hv_options *hvi_options_copy(const hv_options *options);

/* The set of shards that the option `spread` names. */
void hvi_options_spread(const hv_options *options, hvi_spread *spread);

/* The directory in the option `migrations`, which belongs to the options; NULL: none. */
const char *hvi_options_migrations(const hv_options *options);

/* Check that there is at least one server, and one with shards, and that servers hold every shard
 * of the option `spread`. Errors: HV_BAD_CONFIG, HV_NO_MEMORY. */
hv_status hvi_options_validate(const hv_options *options, hv_error **error);

/*
 * Does a text that should not be a password contain a connection string, or a setting `password`
 * that slipped onto its line? Then it must not appear in any message, neither ours nor libpq's.
 */
bool hvi_holds_settings(const char *text);

/* Is this parameter of a server a password? */
bool hvi_is_secret(const char *keyword);

/* Does a server hold what its database says: shards = auto? */
bool hvi_options_auto(const hv_options *options);

/* The number of the server with this name, or -1. */
int hvi_options_server(const hv_options *options, const char *name);

/* The value of a server's parameter ("dbname"), or NULL. */
const char *hvi_server_parameter(const hvi_server_options *server, const char *keyword);

#endif
