CREATE SEQUENCE seq;

-- As many as asked for, each greater than the one before, whether in FROM or elsewhere.
SELECT hypervault.next_id('seq', 7) AS before \gset
SELECT count(*), count(DISTINCT k) AS different, min(k) > :before AS all_greater,
       count(*) FILTER (WHERE k <= previous) AS not_greater,
       count(*) FILTER (WHERE hypervault.key_shard(k) <> 7) AS of_another_shard
FROM (SELECT k, lag(k) OVER (ORDER BY n) AS previous
      FROM hypervault.next_ids('seq', 7, 100000) WITH ORDINALITY AS x (k, n)) y;
SELECT count(*), count(DISTINCT k) FROM (SELECT hypervault.next_ids('seq', 7, 2500) AS k) x;
SELECT count(k) FROM hypervault.next_ids('seq', 7, 1) k;
SELECT count(k) FROM hypervault.next_ids('seq', 7, 1024) k;
SELECT count(k) FROM hypervault.next_ids('seq', 7, 1025) k;

-- None for 0 and for NULL.
SELECT * FROM hypervault.next_ids('seq', 7, 0);
SELECT * FROM hypervault.next_ids('seq', 7, NULL);

-- Two at once in one statement have different keys.
SELECT count(*), count(DISTINCT k)
FROM (SELECT hypervault.next_ids('seq', 7, 3000) UNION ALL
      SELECT hypervault.next_ids('seq', 8, 3000)) AS x (k);

-- Keys that are not fetched are lost, at most a millisecond's worth of them.
BEGIN;
DECLARE keys CURSOR FOR SELECT hypervault.next_ids('seq', 7, 1000000000);
FETCH 1 FROM keys \gset first_
FETCH 1 FROM keys \gset second_
SELECT :second_next_ids > :first_next_ids AS greater;
SELECT last_value - (((:first_next_ids >> 23) << 10) | (:first_next_ids & 1023)) AS beyond_the_first
FROM seq;
SELECT hypervault.next_id('seq', 7) > :second_next_ids AS greater;
FETCH 1 FROM keys \gset third_
SELECT :third_next_ids - :second_next_ids AS difference;
COMMIT;

-- Another epoch.
CREATE SEQUENCE early;
SELECT * FROM hypervault.next_ids('early', 3, 3, 9000000000000000);
DROP SEQUENCE early;

-- Wrong arguments.
\pset format unaligned
\pset tuples_only
SELECT failure($$SELECT hypervault.next_ids('seq', 7, -1)$$);
SELECT failure($$SELECT hypervault.next_ids('seq', 8192, 1)$$);
SELECT failure($$SELECT hypervault.next_ids('pg_class', 7, 1)$$);
BEGIN READ ONLY;
SELECT failure($$SELECT hypervault.next_ids('seq', 7, 1)$$);
ROLLBACK;
DROP SEQUENCE seq;
