/*
 * transaction: move an amount from one account to another, in one transaction, however many others
 * do the same at once.
 *
 *     cc transaction.c $(pkg-config --cflags --libs hypervault) -o transaction && ./transaction 3
 */
#include <hypervault.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct transfer {
    int64_t from;
    int64_t to;
    const char *amount;
} transfer;

static const char *balance_of(const hv_entity *entity) {
    const char *balance = NULL;
    hv_dict_get(hv_entity_dict(entity), "balance", HV_STRLEN, &balance, NULL);
    return balance != NULL ? balance : "none";
}

/* The function of the transaction. It may be called several times, so it changes nothing but what
 * is in the transaction. */
static hv_status move(hv_tx *tx, void *context, hv_error **error) {
    const transfer *wanted = (const transfer *) context;
    char taken[32];
    hv_entity *after = NULL;
    snprintf(taken, sizeof taken, "-%s", wanted->amount);
    hv_status status = hv_tx_increment(tx, wanted->from, "balance", taken, NULL, &after, error);
    bool is_enough = status == HV_OK && balance_of(after)[0] != '-';
    hv_entity_free(after);
    if (status != HV_OK)
        return status;
    if (!is_enough)
        return HV_CHANGED; /* rolls back: nothing was taken */
    return hv_tx_increment(tx, wanted->to, "balance", wanted->amount, NULL, NULL, error);
}

static hv_status open_account(hv_store *store, int shard, int64_t *key, hv_error **error) {
    hv_dict *dict = hv_dict_new();
    hv_status status = dict != NULL ? hv_dict_set(dict, "balance", "100", error) : HV_NO_MEMORY;
    if (status == HV_OK)
        status = hv_put(store, shard, 1, dict, key, error);
    hv_dict_free(dict);
    return status;
}

static hv_status show(hv_store *store, int64_t key, const char *name, hv_error **error) {
    hv_entity *entity = NULL;
    hv_status status = hv_get(store, key, &entity, error);
    if (status == HV_OK)
        printf("%s has %s\n", name, balance_of(entity));
    hv_entity_free(entity);
    return status;
}

int main(int argc, char **argv) {
    int shard = argc > 1 ? atoi(argv[1]) : 0;
    const char *amounts[] = {"70", "70"}; /* there is not enough for the second */
    hv_store *store = NULL;
    hv_error *error = NULL;
    transfer wanted = {0, 0, NULL};

    hv_status status = hv_open(NULL, &store, &error);
    if (status == HV_OK)
        status = open_account(store, shard, &wanted.from, &error);
    if (status == HV_OK)
        status = open_account(store, shard, &wanted.to, &error);
    for (int i = 0; status == HV_OK && i < 2; i++) {
        wanted.amount = amounts[i];
        status = hv_transaction(store, shard, HV_READ_COMMITTED, 0, move, &wanted, &error);
        if (status == HV_OK || status == HV_CHANGED)
            printf("%s %s\n", wanted.amount, status == HV_OK ? "moved" : "refused: too little");
        if (status == HV_CHANGED)
            status = HV_OK;
    }
    if (status == HV_OK)
        status = show(store, wanted.from, "the first", &error);
    if (status == HV_OK)
        status = show(store, wanted.to, "the second", &error);
    if (status != HV_OK)
        fprintf(stderr, "transaction: %s\n",
                error != NULL ? hv_error_message(error) : hv_status_name(status));
    hv_error_free(error);
    hv_close(store, -1, NULL);
    return status == HV_OK ? 0 : 1;
}
