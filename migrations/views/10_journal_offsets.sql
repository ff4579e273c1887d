-- grain: one row per journal
-- How far each journal was read, in bytes.
create view journal_offsets as
select journal, max(up_to_offset) as up_to_offset
from journals_read
group by journal
