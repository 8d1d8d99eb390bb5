/*
 * ui_progress: bars on the terminal, one line each, drawn by a thread of their own.
 *
 * Holds always, while `terminal` is locked: the cursor stands at the start of the line below the
 * bars drawn (`drawn` of them), or nothing is drawn. Whoever writes to stderr holds the lock and
 * has wiped the bars first. At most one ui_progress is on the terminal at a time.
 */
#include "ui.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "memory.h"
#include "ui_internal.h"

#define TICK_MS     100
#define RATE_WINDOW 3.0 /* seconds over which the rate is averaged, roughly */
#define BAR_MIN     8
#define BAR_MAX     40
#define LABEL_MAX   32 /* bytes; longer labels are cut */

typedef struct progress_line {
    char *label;
    _Atomic int64_t done;
    _Atomic int64_t total;  /* -1: unknown */
    _Atomic bool estimated; /* … and what is known is no exact number */
    _Atomic int outcome;    /* a ui_outcome */
    /* The drawing thread's own, under `terminal`. */
    int64_t last_done;
    double rate;      /* per second; < 0: not known yet */
    int64_t ended_us; /* when it ended, or 0 */
} progress_line;

struct ui_progress {
    char *unit;
    int count;
    progress_line *lines;
    int64_t started_us;
    int64_t last_us; /* of the last sample */
    int label_width;
    bool shown; /* false: nothing is ever drawn, and there is no thread */
    pthread_t thread;
    pthread_cond_t wake; /* with `terminal`; says that `over` has changed */
    bool over;
};

static pthread_mutex_t terminal = PTHREAD_MUTEX_INITIALIZER;
static ui_progress *current; /* the one on the terminal, or NULL; under `terminal` */
static int drawn;            /* lines of it that stand there; under `terminal` */

static int64_t now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* ---- Drawing, with `terminal` locked --------------------------------------------------------- */

static void wipe(void) {
    if (drawn > 0)
        fprintf(stderr, "\033[%dA\r\033[J", drawn);
    drawn = 0;
}

static void sample(ui_progress *progress) {
    int64_t now = now_us();
    double seconds = (double) (now - progress->last_us) / 1e6;
    if (seconds < 0.05)
        return;
    progress->last_us = now;
    for (int i = 0; i < progress->count; i++) {
        progress_line *line = &progress->lines[i];
        int64_t done = atomic_load(&line->done);
        double rate = (double) (done - line->last_done) / seconds;
        double weight = seconds < RATE_WINDOW ? seconds / RATE_WINDOW : 1;
        line->rate = line->rate < 0 ? rate : line->rate + weight * (rate - line->rate);
        line->last_done = done;
        if (atomic_load(&line->outcome) != UI_RUNNING && line->ended_us == 0)
            line->ended_us = now;
    }
}

/* What stands to the right of the bar: counts, rate, and the time left or taken. */
static void write_figures(const ui_progress *progress, const progress_line *line, char *text,
                          size_t size) {
    char done_text[UI_NUMBER_SIZE], total_text[UI_NUMBER_SIZE] = "", rate_text[UI_NUMBER_SIZE],
                                    time_text[UI_NUMBER_SIZE];
    int64_t done = atomic_load(&line->done);
    int64_t total = atomic_load(&line->total);
    const char *about = total >= 0 && atomic_load(&line->estimated) ? "~" : "";
    double elapsed_s =
        (double) ((line->ended_us != 0 ? line->ended_us : now_us()) - progress->started_us) / 1e6;
    double rate = line->rate;
    if (line->ended_us != 0)
        rate = elapsed_s > 0 ? (double) done / elapsed_s : 0;

    const char *suffix = "";
    double time_s = elapsed_s;
    if (line->ended_us == 0 && total > 0 && rate > 0) {
        suffix = " left";
        time_s = total > done ? (double) (total - done) / rate : 0;
    }
    if (total >= 0)
        ui_number(total_text, total);
    if (time_s < 60) /* whole seconds: more would flicker */
        snprintf(time_text, sizeof time_text, "%.0f s", time_s);
    else
        ui_duration(time_text, (int64_t) (time_s < 3.6e6 ? time_s : 3.6e6) * 1000000);
    snprintf(text, size, "%*s%s%s%s %s  %7s/s  %s%s", (int) strlen(total_text),
             ui_number(done_text, done), total >= 0 ? "/" : "", about, total_text, progress->unit,
             ui_number(rate_text, rate > 0 ? (int64_t) (rate + 0.5) : 0), time_text, suffix);
}

static void draw_bar(FILE *to, const progress_line *line, int width) {
    static const char *const eighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
    int64_t done = atomic_load(&line->done);
    int64_t total = atomic_load(&line->total);
    int outcome = atomic_load(&line->outcome);
    double share = total > 0 ? (double) done / (double) total : outcome == UI_DONE ? 1 : 0;
    share = share < 0 ? 0 : share > 1 ? 1 : share;
    int steps = (int) (share * width * 8);
    int used = 0;
    fputs(ui_on(stderr, outcome == UI_FAILED ? UI_BAD
                        : outcome == UI_DONE ? UI_GOOD
                                             : UI_NAME),
          stderr);
    for (; used < steps / 8; used++)
        fputs(ui_unicode() ? "█" : "#", to);
    if (ui_unicode() && steps % 8 != 0 && used < width) {
        fputs(eighths[steps % 8], to);
        used++;
    }
    fputs(ui_off(stderr), to);
    fputs(ui_on(stderr, UI_DIM), to);
    for (; used < width; used++)
        fputs(ui_unicode() ? "░" : ".", to);
    fputs(ui_off(stderr), to);
}

static void draw_line(FILE *to, const ui_progress *progress, const progress_line *line, int width) {
    char figures[5 * UI_NUMBER_SIZE];
    write_figures(progress, line, figures, sizeof figures);
    int bar = width - 1 - progress->label_width - 4 - (int) strlen(figures);
    bar = bar > BAR_MAX ? BAR_MAX : bar;
    if (progress->label_width > 0) {
        int columns = ui_text(to, line->label, strlen(line->label));
        int fill = progress->label_width - columns;
        fprintf(to, "%*s  ", fill > 0 ? fill : 0, "");
    }
    if (bar >= BAR_MIN && atomic_load(&line->total) >= 0) {
        draw_bar(to, line, bar);
        fputs("  ", to);
    }
    int room = width - 1 - progress->label_width - 2;
    fprintf(to, "%.*s\033[K\n", room > 0 ? room : 0, figures);
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
    if (drawn > 0)
        fprintf(to, "\033[%dA\r", drawn);
    drawn = 0;
    bool all = progress->count < rows;
    int room = all ? progress->count : rows - 2;
    for (int i = 0; i < progress->count && drawn < room; i++) {
        if (!all && atomic_load(&progress->lines[i].outcome) == UI_DONE)
            continue;
        draw_line(to, progress, &progress->lines[i], width);
        drawn++;
    }
    if (!all) {
        fprintf(to, "… %d lines in all\033[K\n", progress->count);
        drawn++;
    }
    fputs("\033[J", to);
    if (fclose(to) == 0)
        fwrite(frame, 1, frame_len, stderr);
    fflush(stderr);
    free(frame);
}

void ui_stderr_lock(void) {
    pthread_mutex_lock(&terminal);
    if (current != NULL)
        wipe();
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
        struct timespec next;
        clock_gettime(CLOCK_MONOTONIC, &next);
        next.tv_nsec += TICK_MS * 1000000L;
        if (next.tv_nsec >= 1000000000L) {
            next.tv_nsec -= 1000000000L;
            next.tv_sec++;
        }
        pthread_cond_timedwait(&progress->wake, &terminal, &next);
    }
    pthread_mutex_unlock(&terminal);
    return NULL;
}

/* ---- Public ---------------------------------------------------------------------------------- */

static int label_columns(const char *label) {
    char buffer[256];
    FILE *nowhere = fmemopen(buffer, sizeof buffer, "w");
    if (nowhere == NULL)
        return (int) strlen(label);
    int columns = ui_text(nowhere, label, strlen(label));
    fclose(nowhere);
    return columns;
}

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
    progress->started_us = progress->last_us = now_us();
    for (int i = 0; i < lines; i++) {
        progress_line *line = &progress->lines[i];
        line->label = cut_label(labels[i]);
        line->total = -1;
        line->rate = -1;
        int columns = label_columns(line->label);
        if (columns > progress->label_width)
            progress->label_width = columns;
    }
    if (lines > 0 && ui_can_draw())
        start_drawing(progress);
    return progress;
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
            wipe();
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
    free(progress->lines);
    free(progress->unit);
    free(progress);
}
