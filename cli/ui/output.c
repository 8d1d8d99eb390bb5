/*
 * output: results on standard output, and making sure that they get there.
 */
#include "ui/output.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ui/exit.h"
#include "ui/memory.h"
#include "ui/ui.h"

void print_json(json_t *value) {
    if (value == NULL)
        out_of_memory();
    char *text = ui_json_dump(value);
    puts(text);
    free(text);
    json_decref(value);
}

/* Why writing failed, as far as it is known: stdio keeps only that it did. */
static int failed_with;

bool output_ok(void) {
    int reason = errno;
    if (ferror(stdout) == 0)
        return true;
    if (failed_with == 0)
        failed_with = reason;
    return false;
}

void output_flush(void) {
    fflush(stdout);
    output_ok();
}

int output_end(int code) {
    bool failed = !output_ok();
    if (fclose(stdout) != 0 && !failed) {
        failed = true;
        failed_with = errno;
    }
    if (!failed)
        return code;
    if (failed_with == EPIPE) /* the reader has seen enough */
        return EXIT_FAILED;
    ui_fail(failed_with != 0 ? strerror(failed_with) : NULL, NULL,
            "could not write to standard output");
    return EXIT_FAILED;
}
