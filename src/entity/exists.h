/*
 * exists: is there an entity under a key?
 */
#ifndef HVI_EXISTS_H
#define HVI_EXISTS_H

#include "entity/operation.h"

/* ---- for the table ---- */

hvi_next hvi_exists_answered(hvi_operation *operation);

#endif
