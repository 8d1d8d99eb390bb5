/*
 * import_trial: were the keys of an export rounded on its way here?
 *
 * A program that keeps numbers as doubles changes the last digits of a key, and an import would
 * store the entity a second time under the wrong one. A single rounded key cannot be told from a
 * good one, but among a few good keys there is one that no double is printed as. So rows are held
 * back until there is such a key, or so many that they may be given: then none of their keys is
 * like that of a double; or none but such keys were seen, and the file is refused.
 */
#ifndef IMPORT_TRIAL_H
#define IMPORT_TRIAL_H

#include "import/exported.h"

/* So many rows are held back, or rows of so many bytes. */
#define IMPORT_TRIAL_KEYS  1000
#define IMPORT_TRIAL_BYTES ((size_t) 8 << 20)

/* All zero in the beginning. */
typedef struct import_trial {
    import_item *held; /* owned */
    size_t count;
    size_t bytes;
    size_t doubles;      /* of the held keys, so many look like doubles, … */
    int64_t double_key;  /* … the first of them … */
    int64_t double_line; /* … and its line */
    bool passed;         /* there was a key that was not rounded */
} import_trial;

typedef enum import_verdict {
    IMPORT_HOLD, /* it is held back */
    IMPORT_GIVE, /* give all that is held */
    IMPORT_ROUNDED,
} import_verdict;

/* Hold a row back, of which import_exported_row() has said what its key shows; it is the trial's.
 */
import_verdict import_trial_add(import_trial *trial, const import_item *item, exported_key shows);

/* There are no more. */
import_verdict import_trial_end(const import_trial *trial);

/* Say why the file is refused; `name` is the input's. */
void import_trial_explain(const import_trial *trial, const char *name);

void import_trial_fini(import_trial *trial);

#endif
