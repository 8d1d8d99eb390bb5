/*
 * output: results on standard output, and making sure that they get there.
 */
#ifndef OUTPUT_H
#define OUTPUT_H

#include <stdbool.h>

/* Print a JSON value on one line, and release the caller's reference to it. */
struct json_t;
void print_json(struct json_t *value);

/* Check standard output, right after it was written to in a loop that prints much: false if writing
 * to it has failed. Then just return: hv.c reports why and exits with EXIT_FAILED. */
bool output_ok(void);

/* Flush standard output, before something else is shown or waited for. */
void output_flush(void);

/* Flush standard output, and report an error if anything written to it was lost. Returns `code`, or
 * EXIT_FAILED. */
int output_end(int code);

#endif
