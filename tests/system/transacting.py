"""Transactions of a tool: steps with their additional members, and results."""

from harness.store_tool import Reply, step

READ_COMMITTED, REPEATABLE_READ, SERIALIZABLE = range(3)
FAIL_40001 = "DO $$BEGIN RAISE 'made to fail' USING ERRCODE = '40001'; END$$"


def also(made, **members):
    """A step with more members: see tests/system/store_tool_transactions.c."""
    return {**made, **members}


def once(made):
    """A step of the first call only."""
    return also(made, call=1)


def fork_here():
    return {"do": "fork_here"}


def sql(text, **members):
    return also(step("sql", text), **members)


def results(reply):
    """Those of the last call's steps."""
    return [Reply(result) for result in reply.results]


def run(thread, *steps, shard=3, **how):
    """Run a transaction whose function takes these steps."""
    return thread.transaction(shard, list(steps), **how)
