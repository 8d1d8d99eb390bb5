CREATE SEQUENCE seq;

-- A key is positive, and has our shard and the present moment.
SELECT k > 0 AS positive, hypervault.key_shard(k) AS shard,
       hypervault.key_created(k) BETWEEN clock_timestamp() - interval '10 s' AND clock_timestamp()
         AS now
FROM hypervault.next_id('seq', 12) k;

-- The sequence holds the moment and the added_id of the last key.
SELECT hypervault.next_id('seq', 12) AS k \gset
SELECT :k >> 23 = last_value >> 10 AS moment, :k & 1023 = last_value & 1023 AS added_id, is_called
FROM seq;

-- Each key is greater than the one before, though many are made in a millisecond.
CREATE TABLE made (n serial, k bigint);
INSERT INTO made (k) SELECT hypervault.next_id('seq', 12) FROM generate_series(1, 100000);
SELECT count(*), count(DISTINCT k) AS different,
       count(*) FILTER (WHERE k <= before) AS not_greater,
       count(*) FILTER (WHERE hypervault.key_shard(k) <> 12) AS of_another_shard
FROM (SELECT k, lag(k) OVER (ORDER BY n) AS before FROM made) x;
DROP TABLE made;

-- As the default of a column: the sequence cannot be dropped then.
CREATE TABLE entities (id bigint PRIMARY KEY DEFAULT hypervault.next_id('seq', 12), type smallint);
INSERT INTO entities (type) SELECT 1 FROM generate_series(1, 10);
SELECT count(*) FROM entities WHERE hypervault.key_shard(id) = 12;
DROP SEQUENCE seq;
DROP TABLE entities;

-- The first and the last shard.
SELECT hypervault.key_shard(hypervault.next_id('seq', 0)) AS first,
       hypervault.key_shard(hypervault.next_id('seq', 8191)) AS last;

-- Another epoch. That of 1970 is too long ago, so take one of 2008.
CREATE SEQUENCE other;
SELECT hypervault.key_created(k, 1200000000000) BETWEEN clock_timestamp() - interval '10 s'
                                                    AND clock_timestamp() AS now
FROM hypervault.next_id('other', 5, 1200000000000) k;
DROP SEQUENCE other;

-- Before the epoch, keys are counted from the first one on. 0 is not a key.
CREATE SEQUENCE early;
SELECT hypervault.next_id('early', 0, 9000000000000000) FROM generate_series(1, 3);
SELECT hypervault.next_id('early', 3, 9223372036854775807);
SELECT hypervault.next_id('early', 3) > 1000000 AS now;
CREATE SEQUENCE zero MINVALUE -5;
SELECT hypervault.next_id('zero', 0, 9000000000000000);
DROP SEQUENCE early, zero;

-- A plain nextval() on the same sequence does no harm: it counts on, and so does next_id().
SELECT hypervault.next_id('seq', 12) AS before \gset
SELECT nextval('seq') > 1000000 AS counted_on FROM generate_series(1, 3);
SELECT last_value AS between FROM seq \gset
SELECT hypervault.next_id('seq', 12) AS after \gset
SELECT :after > :before AS greater,
       ((:after >> 23) << 10) | (:after & 1023) > :between AS greater_than_what_nextval_took;

-- NULL gives NULL.
SELECT hypervault.next_id(NULL, 12) AS a, hypervault.next_id('seq', NULL) AS b,
       hypervault.next_id('seq', 12, NULL) AS c;

-- Wrong arguments.
\pset format unaligned
\pset tuples_only
SELECT failure($$SELECT hypervault.next_id('seq', -1)$$);
SELECT failure($$SELECT hypervault.next_id('seq', 8192)$$);
SELECT failure($$SELECT hypervault.next_id('missing', 12)$$);
SELECT failure($$SELECT hypervault.next_id('pg_class', 12)$$);
SELECT failure($$SELECT hypervault.next_id(0::regclass, 12)$$);
SELECT failure($$SELECT hypervault.next_id('seq', 12, -9223372036854775808)$$);
SELECT failure($$SELECT hypervault.next_id('seq', 12, 0)$$);

-- In a read-only transaction.
BEGIN READ ONLY;
SELECT failure($$SELECT hypervault.next_id('seq', 12)$$);
ROLLBACK;

-- After all these errors it works.
SELECT hypervault.next_id('seq', 12) > :after;
DROP SEQUENCE seq;
