/*
 * report: the state of a server, and the comparison of several.
 */
#ifndef HVI_REPORT_H
#define HVI_REPORT_H

#include "hypervault.h"

typedef struct hvi_report_shard {
    int shard;
    hv_shard_state state;
    bool is_configured; /* the configuration gives it to this server */
    bool is_held;       /* it has a table */
    int64_t entities;
    bool exact;
    int64_t bytes;
    hv_keys keys;
    unsigned faults;
    char *detail; /* these two owned; NULL: nothing is wrong */
    char *hint;
} hvi_report_shard;

struct hv_report {
    char *server; /* these five owned */
    char *identity;
    char *postgres_version;
    char *database;
    char *extension; /* NULL: not there */
    int layout;
    int connections;
    int max_connections;
    hvi_report_shard *shards; /* owned; ascending */
    size_t shard_count;
};

#endif
