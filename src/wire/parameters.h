/*
 * parameters: any number of parameters of a statement, in binary form.
 *
 * The statement casts each one to its type. Append them, check hvi_parameters_bind() once.
 */
#ifndef HVI_PARAMETERS_H
#define HVI_PARAMETERS_H

#include "base/buffer.h"
#include "value/dict.h"
#include "wire/session.h"

typedef struct hvi_parameters {
    bool log; /* readable forms are needed, too; set it before the first one */
    int count;
    hvi_buffer bytes; /* the values, one after the other */
    hvi_buffer texts; /* their readable forms, each with a NUL byte; empty without `log` */
    hvi_buffer ends;  /* of each: a struct of where it ends in both */
    hvi_buffer bound; /* the arrays that a query points to */
} hvi_parameters;

#define HVI_PARAMETERS_EMPTY \
    { .log = false }

void hvi_parameters_fini(hvi_parameters *parameters);

/* Empty it, keeping the memory; also makes a broken one usable again. */
void hvi_parameters_reset(hvi_parameters *parameters);

/* Append one. `names` are the keys of a dict. */
void hvi_parameters_int8(hvi_parameters *parameters, int64_t value);
void hvi_parameters_int2(hvi_parameters *parameters, int16_t value);
void hvi_parameters_int2_array(hvi_parameters *parameters, const int16_t *values, size_t count);
void hvi_parameters_text(hvi_parameters *parameters, const char *text, size_t len);
void hvi_parameters_text_array(hvi_parameters *parameters, const hv_dict *names);
void hvi_parameters_hstore(hvi_parameters *parameters, const hv_dict *dict);

/* Point the query to them: valid until the next change of either. False if memory was short, or if
 * they are too many or too large for a statement. */
bool hvi_parameters_bind(hvi_parameters *parameters, hvi_query *query);

#endif
