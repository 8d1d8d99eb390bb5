/*
 * differences: what has to be taken from one text, and added, to make another one of it.
 *
 * The longest common sequence of lines is kept, which a table finds: the cell (i, j) has its length
 * for the lines from i and from j on.
 */
#include "schema/differences.h"

#include <stdlib.h>
#include <string.h>

/* The largest table, in cells. */
#define CELLS_MAX ((size_t) 1 << 24)

typedef struct line {
    const char *text;
    size_t len; /* with the newline */
} line;

typedef struct lines {
    line *items; /* owned */
    size_t count;
} lines;

static bool split(const char *text, lines *to) {
    size_t count = 0;
    for (const char *at = text; (at = strchr(at, '\n')) != NULL; at++)
        count++;
    *to = (lines){.items = malloc((count + 1) * sizeof *to->items)};
    if (to->items == NULL)
        return false;
    for (; to->count < count; to->count++) {
        size_t len = strcspn(text, "\n") + 1;
        to->items[to->count] = (line){text, len};
        text += len;
    }
    return true;
}

static bool is_same(line a, line b) {
    return a.len == b.len && memcmp(a.text, b.text, a.len) == 0;
}

static void append(hvi_buffer *to, char sign, line one) {
    hvi_buffer_append_byte(to, sign);
    hvi_buffer_append(to, one.text, one.len);
}

/* Fill the table of the lines from (first, second), of which there are rows and columns. */
static void fill(uint32_t *table, const line *first, size_t rows, const line *second,
                 size_t columns) {
    size_t width = columns + 1;
    for (size_t i = rows; i-- > 0;)
        for (size_t j = columns; j-- > 0;) {
            uint32_t down = table[(i + 1) * width + j], right = table[i * width + j + 1];
            table[i * width + j] = is_same(first[i], second[j]) ? table[(i + 1) * width + j + 1] + 1
                                   : down > right               ? down
                                                                : right;
        }
}

/* Compare lines of which neither the first nor the last is the same. `table` NULL: share none. */
static void compare(hvi_buffer *to, const uint32_t *table, const line *first, size_t rows,
                    const line *second, size_t columns) {
    size_t i = 0, j = 0, width = columns + 1;
    while (i < rows || j < columns) {
        bool is_kept = table != NULL && i < rows && j < columns && is_same(first[i], second[j]);
        if (is_kept)
            i++, j++;
        else if (i < rows && (j == columns || table == NULL ||
                              table[(i + 1) * width + j] >= table[i * width + j + 1]))
            append(to, '-', first[i++]);
        else
            append(to, '+', second[j++]);
    }
}

void hvi_differences(hvi_buffer *to, const char *first, const char *second) {
    lines a = {0}, b = {0};
    uint32_t *table = NULL;
    if (split(first, &a) && split(second, &b)) {
        size_t begin = 0, rows = a.count, columns = b.count;
        while (begin < rows && begin < columns && is_same(a.items[begin], b.items[begin]))
            begin++;
        while (rows > begin && columns > begin && is_same(a.items[rows - 1], b.items[columns - 1]))
            rows--, columns--;
        rows -= begin;
        columns -= begin;
        if ((rows + 1) * (columns + 1) <= CELLS_MAX) {
            table = calloc((rows + 1) * (columns + 1), sizeof *table);
            if (table == NULL)
                hvi_buffer_break(to);
            else
                fill(table, a.items + begin, rows, b.items + begin, columns);
        }
        compare(to, table, a.items + begin, rows, b.items + begin, columns);
    } else {
        hvi_buffer_break(to);
    }
    free(table);
    free(a.items);
    free(b.items);
}
