/*
 * exists: is there an entity under a key?
 */
#include "entity/exists.h"

hvi_next hvi_exists_answered(hvi_operation *op) {
    return hvi_operation_done(op, op->item.answered ? HV_OK : HV_NOT_FOUND);
}
