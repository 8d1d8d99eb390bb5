/*
 * version: which version of an entity it is.
 */
#include "value/version.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void hvi_version_print(const hvi_version *version, char text[HVI_VERSION_LEN]) {
    snprintf(text, HVI_VERSION_LEN, "%" PRId64 "-%" PRIu32 "-%" PRIu32 "-%" PRIu16, version->key,
             version->xmin, version->block, version->offset);
}

void hvi_version_print_row(const hvi_version *version, char text[HVI_ROW_VERSION_LEN]) {
    snprintf(text, HVI_ROW_VERSION_LEN, "%" PRIu32 "(%" PRIu32 ",%" PRIu16 ")", version->xmin,
             version->block, version->offset);
}

/* Only a text that would be printed in the same way is a version. */
bool hvi_version_parse(const char *text, hvi_version *version) {
    char same[HVI_VERSION_LEN];
    hvi_version read;
    if (strlen(text) >= HVI_VERSION_LEN ||
        sscanf(text, "%" SCNd64 "-%" SCNu32 "-%" SCNu32 "-%" SCNu16, &read.key, &read.xmin,
               &read.block, &read.offset) != 4)
        return false;
    hvi_version_print(&read, same);
    if (read.key <= 0 || strcmp(text, same) != 0)
        return false;
    *version = read;
    return true;
}
