/*
 * version: which version of an entity it is, as a text for the user and as PostgreSQL sees it.
 *
 * Each version of a row has a place of its own in its table (ctid), which is not used again before
 * the transaction that wrote it (xmin) has ended. So both together are different after every
 * change, even of several in one transaction.
 */
#ifndef HVI_VERSION_H
#define HVI_VERSION_H

#include <stdbool.h>
#include <stdint.h>

typedef struct hvi_version {
    int64_t key;
    uint32_t xmin;
    uint32_t block; /* of ctid, like the next */
    uint16_t offset;
} hvi_version;

/* "307821103844175873-739-0-5" */
#define HVI_VERSION_LEN 48
void hvi_version_print(const hvi_version *version, char text[HVI_VERSION_LEN]);

/* Read what hvi_version_print() has written; false for any other text. */
bool hvi_version_parse(const char *text, hvi_version *version);

/* As SQL makes it of the columns: concat(xmin, ctid) is "739(0,5)". */
#define HVI_ROW_VERSION_LEN 29
void hvi_version_print_row(const hvi_version *version, char text[HVI_ROW_VERSION_LEN]);

#endif
