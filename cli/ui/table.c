/*
 * table: rows of cells in columns as wide as they need to be. On a terminal that is too narrow for
 * that, each cell has a line of its own, after its column's title, so that no line is broken. If
 * the ends of some columns may be left out, that is tried first.
 */
#include "ui/ui.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include "base/utf8.h"
#include "ui/memory.h"

typedef struct cell {
    char *text; /* owned; already made safe for a terminal */
    int width;  /* in columns of the terminal */
    ui_style style;
} cell;

struct ui_table {
    const ui_column *columns;
    int column_count;
    cell *cells; /* row by row, the titles first */
    size_t count;
    size_t cap;
    int cut;     /* the first column whose ends may be left out; -1: none */
    int *widths; /* of the rows that were flushed; all 0 at first */
    bool begun;  /* rows were printed */
};

static void add_cell(ui_table *table, ui_style style, const char *text) {
    if (table->count == table->cap) {
        table->cap = table->cap != 0 ? table->cap * 2 : 64;
        table->cells = resize_memory(table->cells, table->cap * sizeof *table->cells);
    }
    cell *added = &table->cells[table->count++];
    *added = (cell){.style = style};
    size_t size = 0;
    FILE *stream = open_memstream(&added->text, &size);
    if (stream == NULL)
        out_of_memory();
    added->width = ui_text(stream, text, strlen(text));
    if (fclose(stream) != 0)
        out_of_memory();
}

ui_table *ui_table_new(const ui_column *columns, int count) {
    ui_table *table = new_memory(sizeof *table);
    table->columns = columns;
    table->column_count = count;
    table->cut = -1;
    table->widths = new_memory((size_t) count * sizeof *table->widths);
    for (int i = 0; i < count; i++)
        add_cell(table, UI_BOLD, columns[i].title);
    return table;
}

void ui_cell(ui_table *table, ui_style style, const char *format, ...) {
    char *text = NULL;
    va_list values;
    va_start(values, format);
    if (vasprintf(&text, format, values) < 0)
        out_of_memory();
    va_end(values);
    add_cell(table, style, text);
    free(text);
}

/* How many bytes of a text fit into `room` columns; at least one character. */
static size_t fitting(const char *text, int room) {
    size_t len = 0;
    int used = 0;
    while (text[len] != '\0') {
        uint32_t code = 0;
        size_t size = hvi_utf8_decode(text + len, strlen(text + len), &code);
        int width = size == 0 || !ui_unicode() ? 1 : wcwidth((wchar_t) code);
        used += width > 0 ? width : 0;
        if (len > 0 && used > room)
            break;
        len += size > 0 ? size : 1;
    }
    return len;
}

static void print_cell(const cell *shown, int width, bool right, bool last) {
    int fill = width - shown->width;
    const char *more = ui_unicode() ? "…" : "~";
    if (right)
        printf("%*s", fill > 0 ? fill : 0, "");
    if (fill < 0)
        printf("%s%.*s%s%s", ui_on(stdout, shown->style), (int) fitting(shown->text, width - 1),
               shown->text, more, ui_off(stdout));
    else
        printf("%s%s%s", ui_on(stdout, shown->style), shown->text, ui_off(stdout));
    if (!right && !last)
        printf("%*s", fill > 0 ? fill : 0, "");
    fputs(last ? "\n" : "  ", stdout);
}

static void print_rows(const ui_table *table) {
    size_t columns = (size_t) table->column_count;
    for (size_t i = table->begun ? columns : 0; i < table->count; i++) {
        size_t column = i % columns;
        print_cell(&table->cells[i], table->widths[column], table->columns[column].right,
                   column == columns - 1);
    }
}

/* A line for each cell that is not empty, and an empty one between the rows. */
static void print_cells(const ui_table *table, int width) {
    size_t columns = (size_t) table->column_count;
    const cell *titles = table->cells;
    int title_width = 0;
    for (size_t i = 0; i < columns; i++)
        title_width = titles[i].width > title_width ? titles[i].width : title_width;
    for (size_t i = columns; i < table->count; i++) {
        if (i % columns == 0 && (i > columns || table->begun))
            putchar('\n');
        const char *left = table->cells[i].text;
        for (const cell *title = &titles[i % columns]; *left != '\0'; title = NULL) {
            size_t len = fitting(left, width - title_width - 2);
            if (title != NULL)
                print_cell(title, title_width, false, false);
            else
                printf("%*s", title_width + 2, "");
            printf("%s%.*s%s\n", ui_on(stdout, table->cells[i].style), (int) len, left,
                   ui_off(stdout));
            left += len;
        }
    }
}

void ui_table_cut(ui_table *table, int first) {
    table->cut = first;
}

/* A column with less room than this is not worth reading. */
#define CUT_LEAST 16

/* Make the columns as wide as they need to be. Returns the sum. */
static int find_widths(ui_table *table) {
    int columns = table->column_count;
    for (size_t i = 0; i < table->count; i++) {
        int *width = &table->widths[i % (size_t) columns];
        if (table->cells[i].width > *width)
            *width = table->cells[i].width;
    }
    int whole = 2 * (columns - 1);
    for (int i = 0; i < columns; i++)
        whole += table->widths[i];
    return whole;
}

/* Make the widest columns narrower, as far as that may be. Returns by how much the table is still
 * too wide. */
static int cut_columns(ui_table *table, int over) {
    for (; over > 0; over--) {
        int widest = table->cut;
        for (int i = table->cut; i < table->column_count; i++)
            if (table->widths[i] > table->widths[widest])
                widest = i;
        if (table->widths[widest] <= CUT_LEAST)
            break;
        table->widths[widest]--;
    }
    return over;
}

void ui_table_print(ui_table *table) {
    size_t columns = (size_t) table->column_count;
    while (table->count % columns != 0)
        add_cell(table, UI_PLAIN, "");
    int over = find_widths(table) - ui_width(stdout);
    if (ui_is_terminal(stdout) && table->cut >= 0 && table->cut < table->column_count)
        over = cut_columns(table, over);
    if (over > 0 && ui_is_terminal(stdout))
        print_cells(table, ui_width(stdout));
    else
        print_rows(table);
}

void ui_table_flush(ui_table *table) {
    size_t columns = (size_t) table->column_count;
    if (table->count == columns)
        return;
    ui_table_print(table);
    while (table->count > columns)
        free(table->cells[--table->count].text);
    table->begun = true;
}

void ui_table_free(ui_table *table) {
    if (table == NULL)
        return;
    for (size_t i = 0; i < table->count; i++)
        free(table->cells[i].text);
    free(table->cells);
    free(table->widths);
    free(table);
}
