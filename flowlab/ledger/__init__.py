"""The only package that opens DuckDB: tables, views, ingestion, the chain."""
