/*
 * entity_view: print an entity for people and for programs.
 */
#ifndef ENTITY_VIEW_H
#define ENTITY_VIEW_H

#include "hypervault.h"

/* {"id": …, "created": …, "shard_id": …, "kind": …, "version": …, "body": {…}}: a new reference. */
struct json_t *entity_json(const hv_entity *entity, int64_t epoch);

/* The same for people, on several lines of stdout. `server` may be NULL. */
void entity_print(const hv_entity *entity, int64_t epoch, const char *server);

#endif
