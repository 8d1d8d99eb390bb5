/*
 * ui_progress: bars on the terminal, one line each, drawn by a thread of their own.
 *
 * Holds always, while `terminal` is locked: the cursor stands at the start of the line below the
 * bars drawn (`drawn` of them), or nothing is drawn. A thread that writes to stderr holds the lock
 * and has wiped the bars first. At most one ui_progress is on the terminal at a time. No line is
 * wider than the terminal was when the line was drawn; a terminal that has become narrower since
 * shows it as several.
 */
#include "ui/ui.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "ui/memory.h"

#define TICK_MS     100
#define RATE_WINDOW 3.0 /* seconds over which the rate is averaged, roughly */
#define BAR_MIN     8
#define BAR_MAX     40
#define LABEL_MAX   32 /* bytes; longer labels are cut */

typedef struct progress_line {
    char *label;
    _Atomic int64_t done;
    _Atomic double part;                /* of further units */
    _Atomic int64_t total;              /* -1: unknown */
    _Atomic bool estimated;             /* … and what is known is no exact number */
    _Atomic int outcome;                /* a ui_outcome */
    _Atomic int64_t begins_us, ends_us; /* of a line that shows time; 0: it shows a count */
    /* Used by the drawing thread, under `terminal`. */
    double last_done; /* with the part */
    double rate;      /* per second; < 0: not known yet */
    int64_t began_us;
    int64_t ended_us; /* when it ended, or 0 */
} progress_line;

/* A line below the bars. */
typedef struct remark {
    char *text; /* owned; NULL: none */
    ui_style style;
} remark;

struct ui_progress {
    char *unit;
    int count;
    progress_line *lines;
    int64_t started_us;
    int64_t last_us; /* of the last sample */
    int label_width;
    remark remarks[UI_REMARKS]; /* under `terminal` */
    int *drawn_columns;         /* of the lines that stand on the terminal; under `terminal` */
    bool shown;                 /* false: nothing is ever drawn, and there is no thread */
    pthread_t thread;
    pthread_cond_t wake; /* with `terminal`; signalled when `over` changes */
    bool over;
};

static pthread_mutex_t terminal = PTHREAD_MUTEX_INITIALIZER;
static ui_progress *current; /* the one on the terminal, or NULL; under `terminal` */
static int drawn;            /* lines of it that stand there; under `terminal` */

/* ---- Drawing, with `terminal` locked --------------------------------------------------------- */

/* Go to the start of the first line drawn. A terminal that has become narrower has broken lines
 * that no longer fit. */
static void go_up(FILE *to, const ui_progress *progress, int width) {
    int rows = 0;
    for (int i = 0; i < drawn; i++) {
        int columns = progress->drawn_columns[i];
        rows += columns > width ? (columns + width - 1) / width : 1;
    }
    if (rows > 0)
        fprintf(to, "\033[%dA\r", rows);
}

static void wipe(const ui_progress *progress) {
    go_up(stderr, progress, ui_width(stderr));
    if (drawn > 0)
        fputs("\033[J", stderr);
    drawn = 0;
}

/* Whole units, and parts of others. */
static double done_of(const progress_line *line) {
    return (double) atomic_load(&line->done) + atomic_load(&line->part);
}

static void sample(ui_progress *progress) {
    int64_t now = hvi_clock_us();
    double seconds = (double) (now - progress->last_us) / 1e6;
    if (seconds < 0.05)
        return;
    progress->last_us = now;
    for (int i = 0; i < progress->count; i++) {
        progress_line *line = &progress->lines[i];
        double done = done_of(line);
        double rate = (done - line->last_done) / seconds;
        double weight = seconds < RATE_WINDOW ? seconds / RATE_WINDOW : 1;
        line->rate = line->rate < 0 ? rate : line->rate + weight * (rate - line->rate);
        line->last_done = done;
        if (atomic_load(&line->outcome) != UI_RUNNING && line->ended_us == 0)
            line->ended_us = now;
    }
}

/* The seconds that a line has left or has taken, and the words for which it is. */
static double time_of(const progress_line *line, double elapsed_s, double rate,
                      const char **suffix) {
    int64_t total = atomic_load(&line->total), ends_us = atomic_load(&line->ends_us);
    *suffix = "";
    if (line->ended_us != 0)
        return elapsed_s;
    if (ends_us == 0 && (total <= 0 || rate <= 0))
        return elapsed_s;
    *suffix = " left";
    double left_s = ends_us != 0 ? (double) (ends_us - hvi_clock_us()) / 1e6
                                 : ((double) total - done_of(line)) / rate;
    return left_s > 0 ? left_s : 0;
}

/* The text to the right of the bar: counts, rate, and the time left or taken, as far as there is
 * room. */
static void write_figures(const ui_progress *progress, const progress_line *line, int room,
                          char *text, size_t size) {
    char done_text[UI_NUMBER_SIZE], total_text[UI_NUMBER_SIZE] = "", rate_text[UI_NUMBER_SIZE],
                                    time_text[UI_NUMBER_SIZE];
    int64_t done = atomic_load(&line->done);
    int64_t total = atomic_load(&line->total);
    const char *about = total >= 0 && atomic_load(&line->estimated) ? "~" : "";
    double elapsed_s =
        (double) ((line->ended_us != 0 ? line->ended_us : hvi_clock_us()) - line->began_us) / 1e6;
    double rate = line->rate;
    if (line->ended_us != 0)
        rate = elapsed_s > 0 ? (double) done / elapsed_s : 0;
    const char *suffix;
    double time_s = time_of(line, elapsed_s, rate, &suffix);
    if (total >= 0)
        ui_number(total_text, total);
    if (time_s < 60) /* whole seconds: more would flicker */
        snprintf(time_text, sizeof time_text, "%.0f s", time_s);
    else
        ui_duration(time_text, (int64_t) (time_s < 3.6e6 ? time_s : 3.6e6) * 1000000);
    ui_number(rate_text, rate > 0 ? (int64_t) (rate + 0.5) : 0);
    ui_number(done_text, done);
    for (int less = 0; less < 4; less++) {
        int len = snprintf(text, size, "%*s%s%s%s", less < 2 ? (int) strlen(total_text) : 0,
                           done_text, total >= 0 ? "/" : "", about, total_text);
        if (less < 3)
            len += snprintf(text + len, size - (size_t) len, " %s", progress->unit);
        if (less < 1)
            len += snprintf(text + len, size - (size_t) len, "  %7s/s", rate_text);
        if (less < 2)
            len += snprintf(text + len, size - (size_t) len, "  %s%s", time_text, suffix);
        if (len <= room)
            return;
    }
    text[0] = '\0'; /* rather than a part of a number */
}

/* How much of a line is done, 0 to 1; negative if that is not known. */
static double share_of(const progress_line *line) {
    int64_t begins_us = atomic_load(&line->begins_us), ends_us = atomic_load(&line->ends_us);
    int64_t total = atomic_load(&line->total);
    double share = -1;
    if (ends_us != 0)
        share = (double) (hvi_clock_us() - begins_us) / (double) (ends_us - begins_us);
    else if (total > 0)
        share = done_of(line) / (double) total;
    else if (total == 0)
        share = atomic_load(&line->outcome) == UI_DONE ? 1 : 0;
    return share > 1 ? 1 : share;
}

static void draw_bar(FILE *to, const progress_line *line, int width) {
    int outcome = atomic_load(&line->outcome);
    fputs(ui_on(stderr, outcome == UI_FAILED ? UI_BAD
                        : outcome == UI_DONE ? UI_GOOD
                                             : UI_NAME),
          stderr);
    int used = ui_bar(to, share_of(line), width);
    fputs(ui_off(stderr), to);
    fputs(ui_on(stderr, UI_DIM), to);
    for (; used < width; used++)
        fputs(ui_unicode() ? "░" : ".", to);
    fputs(ui_off(stderr), to);
}

static int label_columns(const char *label, size_t len) {
    char buffer[256];
    FILE *nowhere = fmemopen(buffer, sizeof buffer, "w");
    if (nowhere == NULL)
        return (int) len;
    int columns = ui_text(nowhere, label, len);
    fclose(nowhere);
    return columns;
}

/* Write as much of a label as there is room for; returns its columns. */
static int write_label(FILE *to, const char *label, int room) {
    size_t len = strlen(label);
    while (len > 0 && label_columns(label, len) > room)
        do
            len--;
        while (len > 0 && (label[len] & 0xC0) == 0x80);
    return ui_text(to, label, len);
}

/* Returns the columns that it takes: fewer than `width`. */
static int draw_line(FILE *to, const ui_progress *progress, const progress_line *line, int width) {
    char figures[5 * UI_NUMBER_SIZE];
    int columns = 0;
    if (progress->label_width > 0) {
        int room = progress->label_width < width / 3 ? progress->label_width : width / 3;
        int fill = room - write_label(to, line->label, room);
        fprintf(to, "%*s  ", fill > 0 ? fill : 0, "");
        columns = room + 2;
    }
    write_figures(progress, line, width - 1 - columns, figures, sizeof figures);
    int bar = width - 1 - columns - 2 - (int) strlen(figures);
    bar = bar > BAR_MAX ? BAR_MAX : bar;
    if (bar >= BAR_MIN && share_of(line) >= 0) {
        draw_bar(to, line, bar);
        fputs("  ", to);
        columns += bar + 2;
    }
    fprintf(to, "%s\033[K\n", figures);
    return columns + (int) strlen(figures);
}

/* Returns the columns that it takes: fewer than `width`. */
static int draw_remark(FILE *to, const remark *shown, int width) {
    fputs(ui_on(stderr, shown->style), to);
    int columns = write_label(to, shown->text, width - 1);
    fprintf(to, "%s\033[K\n", ui_off(stderr));
    return columns;
}

static int count_remarks(const ui_progress *progress) {
    int count = 0;
    for (int i = 0; i < UI_REMARKS; i++)
        count += progress->remarks[i].text != NULL;
    return count;
}

static void draw(ui_progress *progress) {
    struct winsize size;
    int rows = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 ? size.ws_row : 24;
    int width = ui_width(stderr);
    sample(progress);
    char *frame = NULL; /* written at once: a terminal would show the pieces as flicker */
    size_t frame_len = 0;
    FILE *to = open_memstream(&frame, &frame_len);
    if (to == NULL)
        return;
    go_up(to, progress, width);
    drawn = 0;
    bool all = progress->count + count_remarks(progress) < rows;
    int room = all ? progress->count : rows - 2;
    for (int i = 0; i < progress->count && drawn < room; i++) {
        if (!all && atomic_load(&progress->lines[i].outcome) == UI_DONE)
            continue;
        progress->drawn_columns[drawn++] = draw_line(to, progress, &progress->lines[i], width);
    }
    if (!all) {
        char text[2 * UI_NUMBER_SIZE];
        int len = snprintf(text, sizeof text, "%d lines in all", progress->count);
        progress->drawn_columns[drawn++] = len < width ? len : width - 1;
        fprintf(to, "%.*s\033[K\n", width - 1, text);
    }
    for (int i = 0; i < UI_REMARKS && all; i++)
        if (progress->remarks[i].text != NULL)
            progress->drawn_columns[drawn++] = draw_remark(to, &progress->remarks[i], width);
    fputs("\033[J", to);
    if (fclose(to) == 0)
        fwrite(frame, 1, frame_len, stderr);
    fflush(stderr);
    free(frame);
}

void ui_stderr_lock(void) {
    pthread_mutex_lock(&terminal);
    if (current != NULL)
        wipe(current);
}

void ui_stderr_unlock(void) {
    if (current != NULL)
        draw(current);
    pthread_mutex_unlock(&terminal);
}

static void *draw_until_over(void *argument) {
    ui_progress *progress = argument;
    pthread_mutex_lock(&terminal);
    while (!progress->over) {
        draw(progress);
        struct timespec next = hvi_deadline_timespec(hvi_deadline_after(TICK_MS));
        pthread_cond_timedwait(&progress->wake, &terminal, &next);
    }
    pthread_mutex_unlock(&terminal);
    return NULL;
}

/* ---- Public ---------------------------------------------------------------------------------- */

/* A copy that is not longer than LABEL_MAX, cut between characters. */
static char *cut_label(const char *label) {
    char *copy = copy_text(label);
    size_t len = strlen(copy);
    if (len > LABEL_MAX) {
        len = LABEL_MAX;
        while (len > 0 && (copy[len] & 0xC0) == 0x80)
            len--;
        copy[len] = '\0';
    }
    return copy;
}

static void start_drawing(ui_progress *progress) {
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&progress->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_lock(&terminal);
    if (current == NULL &&
        pthread_create(&progress->thread, NULL, draw_until_over, progress) == 0) {
        current = progress;
        progress->shown = true;
    }
    pthread_mutex_unlock(&terminal);
    if (!progress->shown)
        pthread_cond_destroy(&progress->wake);
}

ui_progress *ui_progress_new(int lines, const char *const *labels, const char *unit) {
    ui_progress *progress = new_memory(sizeof *progress);
    progress->unit = copy_text(unit);
    progress->count = lines;
    progress->lines = new_memory((size_t) lines * sizeof *progress->lines);
    progress->drawn_columns =
        new_memory(((size_t) lines + 1 + UI_REMARKS) * sizeof *progress->drawn_columns);
    progress->started_us = progress->last_us = hvi_clock_us();
    for (int i = 0; i < lines; i++) {
        progress_line *line = &progress->lines[i];
        line->label = cut_label(labels[i]);
        line->total = -1;
        line->rate = -1;
        line->began_us = progress->started_us;
        int columns = label_columns(line->label, strlen(line->label));
        if (columns > progress->label_width)
            progress->label_width = columns;
    }
    if (lines > 0 && ui_can_draw())
        start_drawing(progress);
    return progress;
}

void ui_progress_label(ui_progress *progress, int line, const char *label) {
    pthread_mutex_lock(&terminal);
    free(progress->lines[line].label);
    progress->lines[line].label = cut_label(label);
    pthread_mutex_unlock(&terminal);
}

void ui_progress_again(ui_progress *progress, int line) {
    pthread_mutex_lock(&terminal);
    progress_line *its = &progress->lines[line];
    atomic_store(&its->done, 0);
    atomic_store(&its->part, 0);
    atomic_store(&its->total, -1);
    atomic_store(&its->estimated, false);
    atomic_store(&its->outcome, (int) UI_RUNNING);
    its->last_done = 0;
    its->rate = -1;
    its->began_us = hvi_clock_us();
    its->ended_us = 0;
    pthread_mutex_unlock(&terminal);
}

void ui_progress_total(ui_progress *progress, int line, int64_t total) {
    atomic_store(&progress->lines[line].total, total);
    atomic_store(&progress->lines[line].estimated, false);
}

void ui_progress_estimate(ui_progress *progress, int line, int64_t total) {
    int64_t unit = 1;
    while (total / unit >= 1000)
        unit *= 10;
    atomic_store(&progress->lines[line].estimated, true);
    atomic_store(&progress->lines[line].total, (total + unit - 1) / unit * unit);
}

void ui_progress_time(ui_progress *progress, int line, int64_t left_us) {
    int64_t now = hvi_clock_us();
    atomic_store(&progress->lines[line].begins_us, now);
    atomic_store(&progress->lines[line].ends_us, now + left_us);
}

void ui_progress_part(ui_progress *progress, int line, double part) {
    atomic_store(&progress->lines[line].part, part);
}

void ui_progress_remark(ui_progress *progress, int index, ui_style style, const char *text) {
    if (!progress->shown)
        return;
    pthread_mutex_lock(&terminal);
    remark *shown = &progress->remarks[index];
    free(shown->text);
    *shown = (remark){.text = text != NULL ? copy_text(text) : NULL, .style = style};
    pthread_mutex_unlock(&terminal);
}

bool ui_progress_is_shown(const ui_progress *progress) {
    return progress->shown;
}

void ui_progress_set(ui_progress *progress, int line, int64_t done) {
    atomic_store(&progress->lines[line].done, done);
}

void ui_progress_add(ui_progress *progress, int line, int64_t more) {
    atomic_fetch_add(&progress->lines[line].done, more);
}

void ui_progress_end(ui_progress *progress, int line, ui_outcome outcome) {
    atomic_store(&progress->lines[line].outcome, (int) outcome);
}

void ui_progress_free(ui_progress *progress, bool keep) {
    if (progress == NULL)
        return;
    if (progress->shown) {
        pthread_mutex_lock(&terminal);
        progress->over = true;
        if (keep)
            draw(progress);
        else
            wipe(progress);
        fflush(stderr);
        drawn = 0;
        current = NULL;
        pthread_cond_signal(&progress->wake);
        pthread_mutex_unlock(&terminal);
        pthread_join(progress->thread, NULL);
        pthread_cond_destroy(&progress->wake);
    }
    for (int i = 0; i < progress->count; i++)
        free(progress->lines[i].label);
    for (int i = 0; i < UI_REMARKS; i++)
        free(progress->remarks[i].text);
    free(progress->lines);
    free(progress->drawn_columns);
    free(progress->unit);
    free(progress);
}
