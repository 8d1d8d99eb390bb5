/*
 * exported: rows that `hv export` wrote: entities with their keys and kinds.
 */
#ifndef IMPORT_EXPORTED_H
#define IMPORT_EXPORTED_H

#include "import/import.h"

/* What a row's key shows about the programs that it went through. */
typedef enum exported_key {
    EXPORTED_KEY_SILENT,   /* nothing: it is a string, or small, or none */
    EXPORTED_KEY_WHOLE,    /* a number that no double is printed as */
    EXPORTED_KEY_DOUBLE,   /* a number that a double is printed as */
    EXPORTED_KEY_FRACTION, /* a number with an exponent or a fraction */
} exported_key;

/* The attribute that a reader must watch for this. */
#define EXPORTED_KEY "id"

/* The row has the attributes id, shard_id, kind and body: move the first three into the item, and
 * make the attributes of the body the row's. A row without them becomes malformed. */
exported_key import_exported_row(import_item *item, const row_format *format);

#endif
