/*
 * move_tool: moves a shard, and does what a test wants at the places that the move comes to.
 *
 *     move_tool CONFIG move|resume|abort|undo|clean SHARD SERVER [option=value …]
 * [@PLACE[#N]=ACTION]
 *
 * SERVER is a number, or "-". The action, at the Nth time that the move comes to the place, is
 * "kill": this process ends as by kill -9; or "ask": writes "at PLACE" and waits for a line. With
 * "@trace" it writes every place to stderr. At the end it writes a line of JSON.
 *
 * It uses the library's own hook, so it is linked with the internal library.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hypervault.h"

/* src/move/hook.h */
void hvi_move_set_hook(void (*hook)(void *context, const char *where), void *context);

/* src/move/late_keys.h */
extern int64_t hvi_late_keys_bytes;

#define ACTIONS_MAX 8

typedef struct action {
    char place[64];
    int nth;
    bool kills;
} action;

static action actions[ACTIONS_MAX];
static int action_count;
static bool traces;

static void reached(void *context, const char *where) {
    (void) context;
    if (traces)
        fprintf(stderr, "%s\n", where);
    for (int i = 0; i < action_count; i++) {
        if (strcmp(actions[i].place, where) != 0 || --actions[i].nth != 0)
            continue;
        if (actions[i].kills)
            raise(SIGKILL);
        char line[64];
        printf("at %s\n", where);
        fflush(stdout);
        if (fgets(line, sizeof line, stdin) == NULL)
            exit(3);
    }
}

static void add_action(const char *text) {
    const char *equals = strrchr(text, '=');
    if (strcmp(text, "trace") == 0) {
        traces = true;
        return;
    }
    if (equals == NULL || action_count == ACTIONS_MAX)
        exit(2);
    action *made = &actions[action_count++];
    snprintf(made->place, sizeof made->place, "%.*s", (int) (equals - text), text);
    made->nth = 1;
    made->kills = strcmp(equals + 1, "kill") == 0;
    char *number = strchr(made->place, '#');
    if (number != NULL) {
        *number = '\0';
        made->nth = atoi(number + 1);
    }
}

static void write_text(const char *name, const char *text) {
    printf(", \"%s\": ", name);
    if (text == NULL) {
        printf("null");
        return;
    }
    putchar('"');
    for (const char *at = text; *at != '\0'; at++) {
        if (*at == '"' || *at == '\\')
            printf("\\%c", *at);
        else if ((unsigned char) *at < 0x20)
            printf("\\u%04x", *at);
        else
            putchar(*at);
    }
    putchar('"');
}

static int report(hv_move *move, hv_status status, hv_error *error) {
    hv_move_status how = {0};
    if (move != NULL)
        hv_move_progress(move, &how);
    printf("{\"status\": %d", (int) status);
    write_text("error", error != NULL ? hv_error_message(error) : NULL);
    write_text("detail", error != NULL ? hv_error_detail(error) : NULL);
    write_text("hint", error != NULL ? hv_error_hint(error) : NULL);
    if (move != NULL) {
        write_text("phase", hv_move_phase_name(how.phase));
        write_text("source", how.source);
        write_text("target", how.target);
        write_text("kind", how.kind);
        write_text("waits_for", how.waits_for);
        write_text("left_behind", how.left_behind);
        printf(", \"rows\": %lld, \"pause_ms\": %.3f, \"seconds\": %.3f", (long long) how.rows,
               how.pause_ms, how.seconds);
    }
    printf("}\n");
    return status == HV_OK ? 0 : 1;
}

int main(int argc, char **argv) {
    hv_error *error = NULL;
    hv_store *store = NULL;
    hv_move *move = NULL;
    hv_options *options = hv_options_new();
    hv_move_options *how = hv_move_options_new();
    bool done = false;
    if (argc < 5)
        return 2;
    hv_status status = hv_options_load(options, argv[1], NULL, &error);
    for (int i = 5; status == HV_OK && i < argc; i++) {
        char *equals = strchr(argv[i], '=');
        if (argv[i][0] == '@') {
            add_action(argv[i] + 1);
        } else if (equals != NULL) {
            *equals = '\0';
            status = hv_move_options_set(how, argv[i], equals + 1, &error);
        }
    }
    hvi_move_set_hook(reached, NULL);
    hvi_late_keys_bytes = 32 << 20;
    if (status == HV_OK)
        status = hv_open(options, &store, &error);
    int shard = atoi(argv[3]);
    const char *order = argv[2];
    if (status != HV_OK)
        ;
    else if (strcmp(order, "move") == 0)
        status = hv_move_start(store, shard, atoi(argv[4]), how, &move, &error);
    else if (strcmp(order, "resume") == 0)
        status = hv_move_resume(store, shard, how, &move, &error);
    else if (strcmp(order, "abort") == 0)
        status = hv_move_abort(store, shard, how, &move, &error);
    else if (strcmp(order, "undo") == 0)
        status = hv_move_undo(store, shard, how, &move, &error);
    else if (strcmp(order, "clean") == 0)
        status = hv_move_clean(store, shard, how, &move, &error);
    else if (strcmp(order, "sweep") == 0)
        status = hv_moves_sweep(store, NULL, &error);
    while (status == HV_OK && move != NULL && !done)
        status = hv_move_advance(move, 100, &done, &error);
    int code = report(move, status, error);
    hv_error_free(error);
    hv_move_free(move);
    hv_move_options_free(how);
    hv_options_free(options);
    if (store != NULL)
        hv_close(store, 1000, NULL);
    return code;
}
