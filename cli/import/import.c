/*
 * import: the types that the parts of an import share: settings, rows, totals.
 */
#include "import/import.h"

#include <stdlib.h>

void import_item_free(import_item *item) {
    row_free(item->row);
    free(item->body);
    *item = (import_item){0};
}
