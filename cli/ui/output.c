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

bool output_ok(void) {
    return ferror(stdout) == 0;
}

int output_end(int code) {
    errno = 0;
    bool failed = ferror(stdout) != 0;
    if (fclose(stdout) == 0 && !failed)
        return code;
    if (errno == EPIPE) /* the reader has seen enough */
        return EXIT_FAILED;
    ui_fail(errno != 0 ? strerror(errno) : NULL, NULL, "could not write to standard output");
    return EXIT_FAILED;
}
