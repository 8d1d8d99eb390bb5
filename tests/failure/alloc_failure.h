/*
 * alloc_failure: its operations, and the functions that they share: see alloc_failure.c.
 */
#ifndef HV_TEST_ALLOC_FAILURE_H
#define HV_TEST_ALLOC_FAILURE_H

#include <hypervault.h>

#define SHARD       2
#define KIND        7
#define NAME        "label" /* of an attribute */
#define KNOWN_LABEL 0       /* of an entity that is there before the runs */

/* One operation. Allocations fail in `act` only, not in `before` and `after`. `before` opens the
 * store, unless opening it is the operation. */
typedef struct operation {
    const char *name;
    void (*before)(void);
    hv_status (*act)(hv_error **error);
    void (*after)(hv_status status);
    bool is_large;
} operation_of;

/* In alloc_failure_bulk.c, alloc_failure_changes.c and alloc_failure_work.c; the last of each has
 * no name. */
extern const operation_of bulk_operations[];
extern const operation_of change_operations[];
extern const operation_of work_operations[];

extern hv_store *store;
extern int label; /* of the entities that this run puts */
extern int64_t known_key;

void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* For the steps between the runs, in which no allocation fails. */
void must(hv_status status, hv_error **error, const char *step);

/* Run a statement on a connection of our own: the first value as a number, or 0. */
int64_t observe(const char *sql);

/* Entities with the label of this run. */
int64_t stored_in_this_run(void);

void open_store(void);

/* Open a store with one connection in its pool that was used. */
void open_and_use(void);

/* Make the dict that is put with a label. Free *dict, on failure too. */
hv_status make_dict(int wanted, hv_dict **dict, hv_error **error);

/* Is it the dict that is put with this label? */
bool is_dict(const hv_dict *dict, int wanted);

#endif
