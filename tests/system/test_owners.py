"""The owners of objects. An object of another role in a shard's place is neither used for making it
nor called ready; where an administrator made the shards, others go on working with them."""

import pytest

from harness import hv, store_config

MALLORY, ADMIN, APP = "owners_mallory", "owners_admin", "owners_app"
LOGS = "LANGUAGE plpgsql AS $$ BEGIN RAISE LOG 'mallory ran this'; RETURN {}; END $$;"


@pytest.fixture
def roles(server):
    """The database `server`, in which mallory may make schemas."""
    for role in (MALLORY, ADMIN, APP):
        if not server.query("SELECT FROM pg_roles WHERE rolname = %s", role):
            server.sql(f"CREATE ROLE {role} LOGIN")
    server.sql(
        f'GRANT CREATE ON DATABASE "{server.dbname}" TO {MALLORY}, {ADMIN};'
        "CREATE EXTENSION hstore"
    )
    return server


def config_of(tmp_path, database, user, shards="1-4"):
    path = tmp_path / f"{user}.conf"
    return store_config(path, {"one": ({**database.params(), "user": user}, shards)})


def as_mallory(database, script):
    with database.connect() as connection, connection.cursor() as cursor:
        cursor.execute(f"SET ROLE {MALLORY}; {script}")


PREPARED = {
    "schema": ("CREATE SCHEMA shard0002;", 2, "the schema"),
    "sequence": (
        "CREATE SCHEMA shard0002; CREATE SEQUENCE shard0002.table_id_seq;",
        2,
        "the sequence table_id_seq",
    ),
    "function": (
        "CREATE SCHEMA shard0002; CREATE FUNCTION shard0002.next_id() RETURNS bigint "
        + LOGS.format("666"),
        2,
        "the function next_id()",
    ),
    "table": (
        "CREATE SCHEMA shard0002; CREATE TABLE shard0002.entities (id bigint PRIMARY KEY,"
        " type smallint NOT NULL, body hstore NOT NULL);",
        2,
        "the table entities",
    ),
    "hypervault": (
        "CREATE SCHEMA hypervault; GRANT USAGE ON SCHEMA hypervault TO PUBLIC;",
        None,
        "the schema hypervault",
    ),
    "record": (
        "CREATE SCHEMA hypervault; GRANT USAGE ON SCHEMA hypervault TO PUBLIC;"
        "CREATE TABLE hypervault.layout (version integer, epoch bigint, server text);"
        "GRANT SELECT ON hypervault.layout TO PUBLIC;",
        None,
        "the table hypervault.layout",
    ),
}


@pytest.mark.parametrize("user", ["postgres", APP])
@pytest.mark.parametrize("what", PREPARED)
def test_init_does_not_build_upon_what_another_role_has_prepared(roles, tmp_path, what, user):
    script, shard, named = PREPARED[what]
    as_mallory(roles, script)
    roles.sql(f'GRANT CREATE ON DATABASE "{roles.dbname}" TO {APP}')
    since = roles.server.log_size()
    result = hv("init", "--json", config=config_of(tmp_path, roles, user))
    assert result.code == 1
    error = result.json()[0]["error"]
    assert error["status"] == "HV_MISMATCH"
    assert error.get("shard") == shard
    assert f'the role "{MALLORY}"' in error["message"]
    assert named in error["detail"]
    assert "OWNER TO" in error["hint"] and "DROP" in error["hint"]
    assert roles.query("SELECT nspname FROM pg_namespace WHERE nspname IN ('shard0001')") == []
    assert "mallory ran this" not in roles.server.log_text(since)


LATER = {
    "schema": ("ALTER SCHEMA shard0002 OWNER TO {0}", "the schema"),
    "table": ("ALTER TABLE shard0002.entities OWNER TO {0}", "the table entities"),
    "sequence": ("ALTER SEQUENCE shard0002.reserved_id_seq OWNER TO {0}", "reserved_id_seq"),
    "next_id": ("ALTER FUNCTION shard0002.next_id() OWNER TO {0}", "the function next_id()"),
    "reserve_ids": (
        "ALTER FUNCTION shard0002.reserve_ids(integer) OWNER TO {0}",
        "the function reserve_ids(integer)",
    ),
    "trigger": (
        "CREATE TRIGGER t BEFORE INSERT ON shard0002.entities FOR EACH ROW"
        " EXECUTE FUNCTION theirs.of_trigger()",
        "the function theirs.of_trigger()",
    ),
    "default": (
        "ALTER TABLE shard0002.entities ALTER id SET DEFAULT theirs.key()",
        "the function theirs.key()",
    ),
    "rule": (
        "CREATE RULE r AS ON INSERT TO shard0002.entities DO ALSO SELECT theirs.key()",
        "the function theirs.key()",
    ),
    "policy": (
        "ALTER TABLE shard0002.entities ENABLE ROW LEVEL SECURITY;"
        "CREATE POLICY p ON shard0002.entities USING (theirs.key() > 0)",
        "the function theirs.key()",
    ),
    "constraint": (
        "ALTER TABLE shard0002.entities ADD CHECK (theirs.key() > 0)",
        "the function theirs.key()",
    ),
}


@pytest.mark.parametrize("what", LATER)
def test_a_shard_of_which_another_role_owns_something_is_not_ready(roles, tmp_path, what):
    statement, named = LATER[what]
    config = config_of(tmp_path, roles, "postgres")
    hv("init", config=config).ok()
    hv("status", config=config).ok()
    as_mallory(
        roles,
        "CREATE SCHEMA theirs; GRANT USAGE ON SCHEMA theirs TO PUBLIC;"
        "CREATE FUNCTION theirs.key() RETURNS bigint "
        + LOGS.format("666")
        + "CREATE FUNCTION theirs.of_trigger() RETURNS trigger "
        + LOGS.format("new"),
    )
    roles.sql(statement.format(MALLORY))
    since = roles.server.log_size()
    shown = hv("status", config=config)
    assert shown.code == 1
    (line,) = [line for line in shown.lines if "1 shard incomplete (2)" in line]
    assert f'the role "{MALLORY}", which is not trusted here, owns' in line
    assert named in line
    result = hv("status", "--json", config=config)
    assert result.code == 1
    states = {each["shard_id"]: each for each in result.json()["servers"][0]["shards"]}
    assert [each["state"] for each in states.values()] == ["ready", "incomplete", "ready"]
    assert named in states[2]["detail"] and "Trusted are" in states[2]["hint"]
    assert hv("init", config=config).code == 1
    assert "mallory ran this" not in roles.server.log_text(since)


def test_the_schema_hypervault_of_another_role_makes_no_shard_ready(roles, tmp_path):
    config = config_of(tmp_path, roles, "postgres")
    hv("init", config=config).ok()
    roles.sql(f"ALTER TABLE hypervault.layout OWNER TO {MALLORY}")
    shown = hv("status", config=config)
    assert shown.code == 1
    assert "3 shards incomplete (1 to 3)" in shown.out
    assert "the table hypervault.layout" in shown.out


@pytest.mark.parametrize("hides", ["view", "policy"])
def test_a_record_that_would_run_something_is_read_by_nobody(roles, tmp_path, hides):
    config = config_of(tmp_path, roles, "postgres")
    hv("init", config=config).ok()
    as_mallory(
        roles,
        "CREATE SCHEMA theirs; GRANT USAGE ON SCHEMA theirs TO PUBLIC;"
        "CREATE FUNCTION theirs.n() RETURNS integer " + LOGS.format("1"),
    )
    if hides == "view":
        roles.sql(
            "ALTER TABLE hypervault.layout RENAME TO other;"
            "CREATE VIEW hypervault.layout AS"
            "  SELECT theirs.n() AS version, epoch, server FROM hypervault.other"
        )
    else:
        roles.sql(
            "ALTER TABLE hypervault.layout ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;"
            "CREATE POLICY p ON hypervault.layout USING (theirs.n() = 1)"
        )
    roles.sql(
        f"GRANT USAGE ON SCHEMA hypervault TO {APP}; GRANT SELECT ON hypervault.layout TO {APP}"
    )
    since = roles.server.log_size()
    for user in ("postgres", APP):
        for command in (["put", 1, 1], ["status"]):
            result = hv(*command, config=config_of(tmp_path, roles, user))
            assert result.code == 1
            assert "is not a plain table" in result.out + result.err
        assert hv("init", config=config_of(tmp_path, roles, user)).code == 1
    assert "mallory ran this" not in roles.server.log_text(since)


# ---- trusted roles ----


def grant_use(database, role):
    for schema in ("shard0001", "shard0002", "shard0003", "hypervault"):
        database.sql(
            f"GRANT USAGE ON SCHEMA {schema} TO {role};"
            f"GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA {schema} TO {role};"
            f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {role}"
        )


@pytest.fixture
def restored(roles):
    """Undo what a test did to roles and the database."""
    yield
    roles.sql(f"REVOKE {ADMIN} FROM {APP}; ALTER ROLE {ADMIN} NOSUPERUSER")


OWNED = {
    "owner": 'ALTER DATABASE "{dbname}" OWNER TO {admin}',
    "member": "GRANT {admin} TO {app}",
    "superuser": "ALTER ROLE {admin} SUPERUSER",
}


@pytest.mark.parametrize("why", OWNED)
def test_an_application_works_with_an_administrators_shards(roles, tmp_path, restored, why):
    roles.sql(OWNED[why].format(dbname=roles.dbname, admin=ADMIN, app=APP))
    admin, app = (config_of(tmp_path, roles, role) for role in (ADMIN, APP))
    hv("init", config=admin).ok()
    grant_use(roles, APP)
    for config in (admin, app):
        hv("status", config=config).ok()
        hv("init", config=config).ok()
        hv("get", hv("put", 1, 1, "a=b", config=config).ok().out.strip(), config=config).ok()


def test_an_application_puts_where_it_does_not_know_the_administrator(roles, tmp_path):
    """Only `hv init` and `hv status` check the owners of shards."""
    admin, app = (config_of(tmp_path, roles, role) for role in (ADMIN, APP))
    hv("init", config=admin).ok()
    hv("status", config=admin).ok()
    grant_use(roles, APP)
    hv("get", hv("put", 1, 1, "a=b", config=app).ok().out.strip(), config=app).ok()
    assert hv("status", config=app).code == 1
    assert hv("init", config=app).code == 1


def test_the_way_out_that_is_named_is_one(roles, tmp_path):
    as_mallory(roles, PREPARED["function"][0])
    config = config_of(tmp_path, roles, "postgres")
    assert hv("init", config=config).code == 1
    roles.sql("DROP SCHEMA shard0002 CASCADE")
    hv("init", config=config).ok()
    roles.sql(f"ALTER FUNCTION shard0002.next_id() OWNER TO {MALLORY}")
    assert hv("status", config=config).code == 1
    roles.sql("ALTER FUNCTION shard0002.next_id() OWNER TO postgres")
    hv("status", config=config).ok()
