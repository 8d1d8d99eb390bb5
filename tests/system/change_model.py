"""What operations on one entity do, in memory: the model that tests compare the servers with.

A state is (kind, attributes), or None where there is no entity.
"""

import decimal
import re

NUMBER = re.compile(r"[-+]?([0-9]+[.]?[0-9]*|[.][0-9]+)")
decimal.getcontext().prec = 300


def holds(condition, state):
    """Without a version, of which the model knows nothing."""
    kind, body = state
    has = condition.get("has") or {}
    return (
        all(name in body and body[name] == value for name, value in has.items())
        and not set(condition.get("lacks") or ()) & set(body)
        and condition.get("kind", kind) == kind
    )


def total(old, amount):
    """Of two numbers as text, as PostgreSQL's numeric writes it."""
    return format(decimal.Decimal(old or "0") + decimal.Decimal(amount), "f")


def _changed(operation, state):
    kind, body = state
    verb = operation["change"]
    if verb == "delete":
        return "HV_OK", None
    if verb == "replace":
        return "HV_OK", (operation["kind"], dict(operation["dict"] or {}))
    body = dict(body)
    if verb == "merge":
        for name in operation.get("remove") or ():
            body.pop(name, None)
        body.update(operation.get("dict") or {})
    else:
        name = operation["attribute"]
        if body.get(name) is not None and not NUMBER.fullmatch(body[name]):
            return "HV_INVALID", state
        body[name] = total(body.get(name), operation["amount"])
    return "HV_OK", (kind, body)


def _put(operation, state):
    wanted = (operation["kind"], dict(operation["dict"] or {}))
    if state is None or state == wanted:
        return "HV_OK", wanted
    return "HV_CONFLICT", state


def run(operation, state):
    """An operation's status and what it leaves. It has the form that queues take, with a key."""
    if "change" in operation:
        condition = operation.get("condition")
        if state is None:
            return "HV_NOT_FOUND", None
        if condition is not None and not holds(condition, state):
            return "HV_CHANGED", state
        return _changed(operation, state)
    if "kind" in operation:
        return _put(operation, state)
    return "HV_OK" if state is not None else "HV_NOT_FOUND", state


def shown(operation, status, after):
    """What the reply shows of the entity: (kind, attributes), or None for none."""
    if "change" in operation:
        if status == "HV_CHANGED":
            return after
        if status == "HV_OK" and operation["change"] == "increment":
            name = operation["attribute"]
            return (after[0], {name: after[1][name]})
        return None
    if "kind" in operation or "exists" in operation or status != "HV_OK":
        return None
    names = operation.get("names")  # None: all attributes, with the version
    if names is not None:
        return (after[0], {name: value for name, value in after[1].items() if name in names})
    return after


NAMES = ("a", "b", "n", "m", "")
VALUES = ("1", "x", None, "2.50", "", "long " * 20)


def random_dict(random):
    return {random.choice(NAMES): random.choice(VALUES) for _ in range(random.randrange(4))}


def random_condition(random):
    made = {}
    has = {name: value for name, value in random_dict(random).items() if random.random() < 0.4}
    if has:
        made["has"] = has
    lacks = [name for name in NAMES if random.random() < 0.15 and name not in has]
    if lacks:
        made["lacks"] = lacks
    if random.random() < 0.3:
        made["kind"] = random.randrange(3)
    return made


def random_change(random, key):
    verb = random.choice(("replace", "merge", "merge", "increment", "increment", "delete"))
    made = {"change": verb, "key": key}
    if verb == "replace":
        made.update(kind=random.randrange(3), dict=random_dict(random))
    elif verb == "merge":
        made["dict"] = {**random_dict(random), "a": random.choice(VALUES)}
        made["remove"] = [
            name for name in NAMES if name not in made["dict"] and random.random() < 0.3
        ]
    elif verb == "increment":
        made["attribute"] = random.choice(NAMES)
        made["amount"] = random.choice(("1", "-1", "0.25", "+10", "-.5"))
    if random.random() < 0.4:
        made["condition"] = random_condition(random)
    return made


def random_put(random, key):
    return {"key": key, "kind": random.randrange(3), "dict": random_dict(random)}


def random_operation(random, key):
    """Of any verb under a key that is not a put."""
    which = random.random()
    if which < 0.8:
        return random_change(random, key)
    if which < 0.84:
        return {"key": key}
    if which < 0.9:
        return {"key": key, "names": None}
    if which < 0.95:
        return {"key": key, "names": [name for name in NAMES if random.random() < 0.5]}
    return {"key": key, "exists": True}
