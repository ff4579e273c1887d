"""What runs and decisions leave behind: append-only files of JSON lines, one model per kind of line."""
