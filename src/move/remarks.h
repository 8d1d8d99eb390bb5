/*
 * remarks: what hv_doctor() has found, for people.
 */
#ifndef HVI_REMARKS_H
#define HVI_REMARKS_H

#include "base/error.h"

/* The list that hv_findings is; all zero: empty. */
struct hv_findings {
    hv_finding *items; /* owned, as their texts */
    size_t count;
    bool is_broken; /* memory was short */
};

/* Add one; texts are copied, and `other`, `detail` and `hint` may be NULL. */
void hvi_remarks_add(hv_findings *findings, const hv_finding *finding);

/* Add an error of the library, as one of this severity. Takes *cause. */
void hvi_remarks_add_error(hv_findings *findings, hv_severity severity, const char *server,
                           const char *other, int shard, hv_error **cause);

/* The first error among them, as what a move ends with; HV_OK: there is none. */
hv_status hvi_remarks_fail(const hv_findings *findings, hv_error **error);

/* Of a list that is no object of the heap. */
void hvi_remarks_fini(hv_findings *findings);

#endif
