/*
 * import: what is imported and what became of it: settings, a row on its way, totals.
 */
#include "import/import.h"

#include <stdlib.h>

void import_item_free(import_item *item) {
    row_free(item->row);
    free(item->body);
    *item = (import_item){0};
}
