\echo Use "CREATE EXTENSION hypervault" to load this file. \quit

-- The epoch's default is 2013-09-16T21:05:31.352Z, here as everywhere in hypervault.

-- ---- Make keys ----

CREATE FUNCTION hypervault.next_id(
    seq pg_catalog.regclass, shard integer, epoch bigint DEFAULT 1379365531352)
RETURNS bigint LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'hypervault_next_id';
COMMENT ON FUNCTION hypervault.next_id IS
    'the next key of a shard: greater than all that its sequence gave before';

CREATE FUNCTION hypervault.next_ids(
    seq pg_catalog.regclass, shard integer, count integer, epoch bigint DEFAULT 1379365531352)
RETURNS SETOF bigint LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'hypervault_next_ids';
COMMENT ON FUNCTION hypervault.next_ids IS
    'the next keys of a shard, ascending, many at a time';

CREATE FUNCTION hypervault.advance(seq pg_catalog.regclass, key bigint)
RETURNS pg_catalog.void LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'hypervault_advance';
COMMENT ON FUNCTION hypervault.advance IS
    'let every later key that is made with the sequence be greater than this one';

-- ---- Read keys ----

CREATE FUNCTION hypervault.key_created(key bigint, epoch bigint DEFAULT 1379365531352)
RETURNS pg_catalog.timestamptz LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'hypervault_key_created';
COMMENT ON FUNCTION hypervault.key_created IS 'when the key was made, to the millisecond';

CREATE FUNCTION hypervault.key_shard(key bigint)
RETURNS integer LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'hypervault_key_shard';
COMMENT ON FUNCTION hypervault.key_shard IS 'the shard that the key leads to, 0 to 8191';

CREATE FUNCTION hypervault.key_added_id(key bigint)
RETURNS integer LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'hypervault_key_added_id';
COMMENT ON FUNCTION hypervault.key_added_id IS
    'the key''s number among those of its shard and millisecond, 0 to 1023';

-- ---- Put keys together ----

CREATE FUNCTION hypervault.make_key(
    created pg_catalog.timestamptz, shard integer, added_id integer DEFAULT 0,
    epoch bigint DEFAULT 1379365531352)
RETURNS bigint LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'hypervault_make_key';
COMMENT ON FUNCTION hypervault.make_key IS 'the key with these parts';

CREATE FUNCTION hypervault.first_key(
    created pg_catalog.timestamptz, epoch bigint DEFAULT 1379365531352)
RETURNS bigint LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'hypervault_first_key';
COMMENT ON FUNCTION hypervault.first_key IS
    'the bound for scans by time: id >= first_key(t) is what was made at or after t';

-- ---- About the extension ----

-- Of the functions above, not of the library that happens to be loaded: ALTER EXTENSION hypervault
-- UPDATE changes it.
CREATE FUNCTION hypervault.version()
RETURNS pg_catalog.text LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT '1.0'::pg_catalog.text $$;
COMMENT ON FUNCTION hypervault.version IS 'the version of the extension hypervault';
