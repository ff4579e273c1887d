"""Where recordings come from, how they are cut into windows, which validate."""
