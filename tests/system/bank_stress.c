/*
 * bank_stress: threads that move amounts between accounts, each move in a transaction.
 *
 * usage: bank_stress CONFIG SHARD ACCOUNTS THREADS COUNT ISOLATION [OPTION=VALUE...]
 *
 * Makes accounts with 100 each in a shard, and prints their keys in the first line. Then each
 * thread makes so many transfers: a transaction reads two accounts, computes both new balances here
 * and writes them, or returns HV_CHANGED, so that nothing is changed, if there is too little. Every
 * tenth transaction reads all accounts instead; at the isolation levels above read committed it
 * must see the same sum each time. So neither the server nor hypervault adds anything up: whether
 * the sum stays the same depends on the transactions alone. Those that could not begin or end in
 * time are tried again. Prints the numbers of transfers, of those with too little, of those with an
 * unknown outcome, of transactions that were begun again and of those that could not begin.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hypervault.h"

#define BALANCE 100

static hv_store *store;
static int shard;
static int account_count;
static int64_t *accounts;
static int count;
static hv_isolation isolation;
static atomic_long moved, too_little, unknown, again, tried;

static void die(const char *what, const hv_error *error) {
    printf("%s: %s\n", what, error != NULL ? hv_error_message(error) : "");
    exit(1);
}

/* A transfer, or, with amount 0, a look at all accounts. */
typedef struct transfer {
    int from;
    int to;
    int64_t amount;
} transfer;

static hv_status read_balance(hv_tx *tx, int number, int64_t *balance, hv_error **error) {
    hv_entity *entity = NULL;
    const char *value;
    hv_status status = hv_tx_get(tx, accounts[number], &entity, error);
    if (status == HV_OK && !hv_dict_get(hv_entity_dict(entity), "balance", 7, &value, NULL))
        die("an account has no balance", NULL);
    if (status == HV_OK)
        *balance = strtoll(value, NULL, 10);
    hv_entity_free(entity);
    if (status == HV_NOT_FOUND)
        die("an account is gone", NULL);
    return status;
}

static hv_status write_balance(hv_tx *tx, int number, int64_t balance, hv_error **error) {
    char text[32];
    hv_dict *set = hv_dict_new();
    snprintf(text, sizeof text, "%" PRId64, balance);
    if (set == NULL || hv_dict_set(set, "balance", text, NULL) != HV_OK)
        die("no memory", NULL);
    hv_status status = hv_tx_merge(tx, accounts[number], set, NULL, NULL, NULL, error);
    hv_dict_free(set);
    return status;
}

static hv_status look_at_all(hv_tx *tx, hv_error **error) {
    int64_t sum = 0, balance = 0;
    hv_status status = HV_OK;
    for (int i = 0; i < account_count && status == HV_OK; i++, sum += balance)
        status = read_balance(tx, i, &balance, error);
    if (status == HV_OK && isolation != HV_READ_COMMITTED &&
        sum != (int64_t) account_count * BALANCE)
        die("a transaction saw another sum", NULL);
    return status;
}

static hv_status work(hv_tx *tx, void *context, hv_error **error) {
    const transfer *wanted = context;
    int64_t from = 0, to = 0;
    if (hv_tx_call(tx) > 1)
        again++;
    if (wanted->amount == 0)
        return look_at_all(tx, error);
    hv_status status = read_balance(tx, wanted->from, &from, error);
    if (status == HV_OK)
        status = read_balance(tx, wanted->to, &to, error);
    if (status == HV_OK && from < wanted->amount)
        return HV_CHANGED;
    if (status == HV_OK)
        status = write_balance(tx, wanted->from, from - wanted->amount, error);
    if (status == HV_OK)
        status = write_balance(tx, wanted->to, to + wanted->amount, error);
    return status;
}

static void *run(void *context) {
    unsigned seed = (unsigned) (uintptr_t) context;
    for (int i = 0; i < count; i++) {
        hv_error *error = NULL;
        transfer wanted = {.from = rand_r(&seed) % account_count,
                           .amount = i % 10 == 0 ? 0 : 1 + rand_r(&seed) % 50};
        wanted.to = (wanted.from + 1 + rand_r(&seed) % (account_count - 1)) % account_count;
        hv_status status = hv_transaction(store, shard, isolation, 0, work, &wanted, &error);
        if (status == HV_OK) {
            moved += wanted.amount > 0;
        } else if (status == HV_CHANGED) {
            too_little++;
        } else if (status == HV_OUTCOME_UNKNOWN) {
            unknown++;
        } else if (hv_error_retriable(error)) {
            tried++;
            i--;
        } else {
            die("a transfer failed", error);
        }
        hv_error_free(error);
    }
    return NULL;
}

static void open_store(const char *config, char **options, int option_count) {
    hv_error *error = NULL;
    hv_options *made = hv_options_new();
    if (hv_options_load(made, config, NULL, &error) != HV_OK)
        die("no configuration", error);
    for (int i = 0; i < option_count; i++) {
        char *value = strchr(options[i], '=');
        *value = '\0';
        if (hv_options_set(made, options[i], value + 1, &error) != HV_OK)
            die("not an option", error);
    }
    if (hv_open(made, &store, &error) != HV_OK)
        die("could not open the store", error);
    hv_options_free(made);
}

static void make_accounts(void) {
    char balance[32];
    hv_error *error = NULL;
    hv_dict *dict = hv_dict_new();
    snprintf(balance, sizeof balance, "%d", BALANCE);
    if (dict == NULL || hv_dict_set(dict, "balance", balance, NULL) != HV_OK)
        die("no memory", NULL);
    accounts = calloc((size_t) account_count, sizeof *accounts);
    for (int i = 0; i < account_count; i++) {
        if (hv_put(store, shard, 1, dict, &accounts[i], &error) != HV_OK)
            die("could not make an account", error);
        printf("%" PRId64 "%s", accounts[i], i + 1 < account_count ? " " : "\n");
    }
    fflush(stdout);
    hv_dict_free(dict);
}

int main(int argc, char **argv) {
    if (argc < 7)
        die("usage: bank_stress CONFIG SHARD ACCOUNTS THREADS COUNT ISOLATION [OPTION=VALUE...]",
            NULL);
    shard = atoi(argv[2]);
    account_count = atoi(argv[3]);
    int thread_count = atoi(argv[4]);
    count = atoi(argv[5]);
    isolation = (hv_isolation) atoi(argv[6]);
    open_store(argv[1], argv + 7, argc - 7);
    make_accounts();
    pthread_t *threads = calloc((size_t) thread_count, sizeof *threads);
    for (int i = 0; i < thread_count; i++)
        if (pthread_create(&threads[i], NULL, run, (void *) (uintptr_t) (i + 1)) != 0)
            die("could not start a thread", NULL);
    for (int i = 0; i < thread_count; i++)
        pthread_join(threads[i], NULL);
    free(threads);
    free(accounts);
    if (hv_close(store, 0, NULL) != HV_OK)
        die("the store is still in use", NULL);
    printf("%ld %ld %ld %ld %ld\n", moved, too_little, unknown, again, tried);
    return 0;
}
