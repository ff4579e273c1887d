"""Which runs, in which cohorts, on which executor; ingest them. Start reading at run.py."""
