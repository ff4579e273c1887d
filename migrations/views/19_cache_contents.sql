-- grain: one row per cache, content
-- What runs read of a cache: its id and when it was built, the digest of all that it held, how many runs read that, and the first of them.
-- A build has one content; two of one build mean that its files were changed between two runs.
create view cache_contents as
select
    name as cache,
    digest as content,
    count(distinct run_id) as num_runs,
    arg_min(run_id, entry) as first_run_id
from artifacts
where regexp_full_match(name, '[0-9a-f]{16}\.zarr built [0-9]+')
group by name, digest
