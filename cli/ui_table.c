/*
 * ui_table: rows of cells in columns as wide as they need to be.
 */
#include "ui.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"

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

static void print_cell(const cell *shown, int width, bool right, bool last) {
    int fill = width - shown->width;
    if (right)
        printf("%*s", fill, "");
    printf("%s%s%s", ui_on(stdout, shown->style), shown->text, ui_off(stdout));
    if (!right && !last)
        printf("%*s", fill, "");
    fputs(last ? "\n" : "  ", stdout);
}

void ui_table_print(ui_table *table) {
    size_t columns = (size_t) table->column_count;
    while (table->count % columns != 0)
        add_cell(table, UI_PLAIN, "");
    int *widths = new_memory(columns * sizeof *widths);
    for (size_t i = 0; i < table->count; i++) {
        int *width = &widths[i % columns];
        if (table->cells[i].width > *width)
            *width = table->cells[i].width;
    }
    for (size_t i = 0; i < table->count; i++) {
        size_t column = i % columns;
        print_cell(&table->cells[i], widths[column], table->columns[column].right,
                   column == columns - 1);
    }
    free(widths);
}

void ui_table_free(ui_table *table) {
    if (table == NULL)
        return;
    for (size_t i = 0; i < table->count; i++)
        free(table->cells[i].text);
    free(table->cells);
    free(table);
}
