/*
 * trial: were the keys of an export rounded on its way here?
 *
 * A program that keeps numbers as doubles changes the last digits of a key, and an import would
 * store the entity a second time under the wrong one. A single rounded key cannot be distinguished
 * from a good one, but among a few good keys there is one that no double is printed as. So rows are
 * held back until such a key is seen. If there are many rows without one, the file is refused if
 * all their keys above 2^53 look rounded; otherwise they are given.
 */
#ifndef IMPORT_TRIAL_H
#define IMPORT_TRIAL_H

#include "import/exported.h"

/* How many rows are held back at most, and how many bytes of them. */
#define IMPORT_TRIAL_KEYS  1000
#define IMPORT_TRIAL_BYTES ((size_t) 8 << 20)

/* All zero at the beginning. */
typedef struct import_trial {
    import_item *held; /* owned */
    size_t count;
    size_t bytes;
    size_t doubles;      /* how many of the held keys look like doubles, … */
    int64_t double_key;  /* … the first of them … */
    int64_t double_line; /* … and its line */
    bool passed;         /* there was a key that was not rounded */
} import_trial;

typedef enum import_verdict {
    IMPORT_HOLD, /* it is held back */
    IMPORT_GIVE, /* give all that is held */
    IMPORT_ROUNDED,
} import_verdict;

/* Hold a row back, and own it. `shows` is what import_exported_row() returned for it. */
import_verdict import_trial_add(import_trial *trial, const import_item *item, exported_key shows);

/* There are no more. */
import_verdict import_trial_end(const import_trial *trial);

/* Report why the file is refused; `name` is the input's. */
void import_trial_explain(const import_trial *trial, const char *name);

void import_trial_fini(import_trial *trial);

#endif
