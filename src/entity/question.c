/*
 * question: an operation that asks a server something.
 */
#include "entity/question.h"

void hvi_question_init(hvi_operation *op, hvi_ask *ask, hvi_router *router, hvi_server *server,
                       int shard, PGresult **to) {
    *op = (hvi_operation){
        .verb = &hvi_question,
        .target = {.router = router, .server = server, .shard = shard},
        .item = {.verb = &hvi_question, .shard = shard, .ask = ask},
        .answer = to,
    };
    if (shard < 0)
        return;
    hvi_schema_name(shard, op->target.schema);
    int holder = hvi_router_holder(router, shard); /* it may have moved since it was divided */
    if (holder >= 0)
        op->target.server = &router->servers[holder];
}

hvi_next hvi_question_answered(hvi_operation *op) {
    PQclear(*op->answer);
    *op->answer = op->item.ask->result;
    op->item.ask->result = NULL;
    return hvi_operation_done(op, HV_OK);
}
