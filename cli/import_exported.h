/*
 * import_exported: rows that `hv export` wrote: entities with their keys and kinds.
 */
#ifndef IMPORT_EXPORTED_H
#define IMPORT_EXPORTED_H

#include "import_lanes.h"

/* The row has the attributes id, shard_id, kind and body: take the first three into the item, and
 * leave the attributes of the body as the row's. A row that is not so becomes malformed. */
void import_exported_row(import_item *item, const row_format *format);

#endif
