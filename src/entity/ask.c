/*
 * ask: a statement that only reads, and that no row of the table of verbs holds.
 */
#include "entity/ask.h"

void hvi_ask_give(hvi_ask *ask, PGresult **result) {
    PQclear(ask->result);
    ask->result = *result;
    *result = NULL;
}

void hvi_ask_free(hvi_ask *ask) {
    if (ask == NULL)
        return;
    PQclear(ask->result);
    ask->free(ask);
}
