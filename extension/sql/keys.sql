SET timezone TO 'UTC';

-- The golden key, taken apart and composed.
SELECT hypervault.key_created(307821103844175873) AS created,
       hypervault.key_shard(307821103844175873) AS shard,
       hypervault.key_added_id(307821103844175873) AS added_id,
       hypervault.make_key('2014-11-15T14:11:06.450Z', 12, 1) AS key;

-- The first and the last possible key.
SELECT k, hypervault.key_created(k), hypervault.key_shard(k), hypervault.key_added_id(k)
FROM unnest(ARRAY[1, 1024, 8388608, 9223372036854775807]) k;
SELECT hypervault.make_key('2013-09-16T21:05:31.352Z', 0, 1) AS first,
       hypervault.make_key('2048-07-20T16:59:19.127Z', 8191, 1023) AS last;

-- Many keys composed and taken apart again, in another epoch too.
SELECT count(*) FROM generate_series(0, 1000) n,
    LATERAL (SELECT (n::bigint * 9223372036854775 + 1) AS k) x
WHERE k <> hypervault.make_key(hypervault.key_created(k), hypervault.key_shard(k),
                               hypervault.key_added_id(k))
   OR k <> hypervault.make_key(hypervault.key_created(k, 0), hypervault.key_shard(k),
                               hypervault.key_added_id(k), 0);

-- The moment is rounded down to its millisecond, before 2000 too.
SELECT hypervault.key_created(hypervault.make_key('2026-01-01T00:00:00.123999Z', 1)),
       hypervault.key_created(hypervault.make_key('1999-12-31T23:59:59.999999Z', 1, 0, 0), 0);

-- Far epochs.
SELECT hypervault.key_created(1, -62135596800000), hypervault.key_created(1, 9000000000000000);

-- The bound of a scan: id >= first_key(t) is the same as key_created(id) >= t.
SELECT hypervault.first_key('2014-11-15T14:11:06.450Z') AS bound,
       hypervault.first_key('2013-09-16T21:05:31.352Z') AS at_the_epoch,
       hypervault.first_key('2000-01-01Z') AS before_it,
       hypervault.first_key('-infinity') AS at_the_beginning,
       hypervault.first_key('2048-07-20T16:59:19.127Z') AS last;
SELECT hypervault.first_key('1970-01-01T00:00:01Z', 0) AS bound, 1000::bigint << 23 AS the_same;
SELECT count(*) FROM generate_series(0, 3000) n,
    LATERAL (SELECT timestamptz '2026-01-01Z' + n * interval '1 microsecond' AS t) x,
    LATERAL (VALUES (hypervault.make_key('2026-01-01Z', 8191, 1023)),
                    (hypervault.make_key('2026-01-01T00:00:00.001Z', 0)),
                    (hypervault.make_key('2026-01-01T00:00:00.002Z', 3))) keys (id)
WHERE (id >= hypervault.first_key(t)) <> (hypervault.key_created(id) >= t);

-- The index on keys serves conditions on moments.
CREATE TABLE entities (id bigint PRIMARY KEY, type smallint);
INSERT INTO entities
SELECT hypervault.make_key('2026-01-01Z'::timestamptz + n * interval '1 minute', 5), 1
FROM generate_series(0, 99999) n;
VACUUM ANALYZE entities;
EXPLAIN (costs off)
SELECT * FROM entities WHERE id >= hypervault.first_key('2026-03-10Z');
EXPLAIN (costs off)
SELECT * FROM entities WHERE id >= hypervault.first_key('2026-02-01Z')
                         AND id < hypervault.first_key('2026-02-02Z');
PREPARE since (timestamptz) AS
SELECT count(*) FROM entities
WHERE id >= hypervault.first_key($1) AND id < hypervault.first_key($1 + interval '1 day');
SET plan_cache_mode TO force_generic_plan;
EXPLAIN (costs off) EXECUTE since ('2026-02-01Z');
EXECUTE since ('2026-02-01Z');
RESET plan_cache_mode;
-- An index on the shard is possible too.
CREATE INDEX ON entities (hypervault.key_shard(id));
DROP TABLE entities;

-- NULL gives NULL.
SELECT hypervault.key_created(NULL) AS a, hypervault.key_shard(NULL) AS b,
       hypervault.key_added_id(NULL) AS c, hypervault.make_key(NULL, 1) AS d,
       hypervault.make_key(now(), NULL) AS e, hypervault.first_key(NULL) AS f;

-- Numbers that are not keys, and parts that make none.
\pset format unaligned
\pset tuples_only
SELECT failure($$SELECT hypervault.key_created(0)$$);
SELECT failure($$SELECT hypervault.key_shard(-1)$$);
SELECT failure($$SELECT hypervault.key_added_id(-9223372036854775808)$$);
SELECT failure($$SELECT hypervault.key_created(1, 9223372036854775807)$$);
SELECT failure($$SELECT hypervault.key_created(9223372036854775807, 9223372036854775807)$$);
SELECT failure($$SELECT hypervault.key_created(1, -9223372036854775808)$$);
SELECT failure($$SELECT hypervault.make_key('2013-09-16T21:05:31.351Z', 1)$$);
SELECT failure($$SELECT hypervault.make_key('2048-07-20T16:59:19.128Z', 1)$$);
SELECT failure($$SELECT hypervault.make_key('infinity', 1)$$);
SELECT failure($$SELECT hypervault.make_key('-infinity', 1)$$);
SELECT failure($$SELECT hypervault.make_key('2026-01-01Z', 1, 0, -9223372036854775808)$$);
SELECT failure($$SELECT hypervault.make_key('2026-01-01Z', 8192)$$);
SELECT failure($$SELECT hypervault.make_key('2026-01-01Z', -1)$$);
SELECT failure($$SELECT hypervault.make_key('2026-01-01Z', 1, 1024)$$);
SELECT failure($$SELECT hypervault.make_key('2026-01-01Z', 1, -1)$$);
SELECT failure($$SELECT hypervault.make_key('2013-09-16T21:05:31.352Z', 0)$$);
SELECT failure($$SELECT hypervault.first_key('2048-07-20T16:59:19.128Z')$$);
SELECT failure($$SELECT hypervault.first_key('infinity')$$);
SELECT failure($$SELECT hypervault.first_key('2026-01-01Z', -9223372036854775808)$$);
