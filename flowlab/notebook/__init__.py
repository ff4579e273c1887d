"""The Python way in, for notebooks: `flowlab.open_study(path)`. It reads, and never writes."""
