"""Where drives come from, how they are cut into windows, and which of them are validated on."""
