/*
 * alloc_failure: what its operations are made of, and what those share: see alloc_failure.c.
 */
#ifndef HV_TEST_ALLOC_FAILURE_H
#define HV_TEST_ALLOC_FAILURE_H

#include <hypervault.h>

#define SHARD       2
#define KIND        7
#define NAME        "label" /* of an attribute */
#define KNOWN_LABEL 0       /* of an entity that is there before the runs */

/* One operation: `before` and `after` with all the memory there is, `act` with what we let it have.
 * `before` opens the store, unless opening it is the operation. */
typedef struct operation {
    const char *name;
    void (*before)(void);
    hv_status (*act)(hv_error **error);
    void (*after)(hv_status status);
    bool is_large;
} operation_of;

/* In alloc_failure_bulk.c; the last has no name. */
extern const operation_of bulk_operations[];

extern hv_store *store;
extern int label; /* of the entities that this run puts */
extern int64_t known_key;

void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* For the steps between the runs, where memory is plenty. */
void must(hv_status status, hv_error **error, const char *step);

/* Run a statement on a connection of our own: the first value as a number, or 0. */
int64_t observe(const char *sql);

/* Entities with the label of this run. */
int64_t stored_in_this_run(void);

void open_store(void);

/* Open it, and have one connection in its pool that was used. */
void open_and_use(void);

/* What is put with a label. *dict is to be freed whatever comes of it. */
hv_status make_dict(int wanted, hv_dict **dict, hv_error **error);

/* Is it that? */
bool is_dict(const hv_dict *dict, int wanted);

#endif
