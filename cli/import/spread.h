/*
 * spread: the shards that an import spreads its rows over, by an attribute.
 *
 * They are those of the option `spread`, or without it all that the configuration has. In either
 * case they are recorded on the servers, beside the records of imports, so that a later import
 * without the option is refused if it would spread rows over others.
 */
#ifndef IMPORT_SPREAD_H
#define IMPORT_SPREAD_H

#include <stdbool.h>

#include "hypervault.h"

typedef struct import_spread {
    char *shards; /* as ranges; owned; NULL: the import is not by an attribute */
    bool is_set;  /* by the option */
    bool is_all;  /* these are all shards of the configuration */
} import_spread;

/* Open the store with the option `spread` in any case. False after an error message. */
bool import_spread_open(hv_store **store, import_spread *spread);

/* Compare with what earlier imports have recorded: other shards are an error, or a note if the
 * option is set. Without records and the option, a note says which line keeps the set. */
bool import_spread_check(const import_spread *spread, hv_store *store);

/* Record the shards on all servers that hold some. False after an error message. */
bool import_spread_record(const import_spread *spread, hv_store *store);

#endif
