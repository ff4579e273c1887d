"""What crosses borders between packages: types, named random streams, errors, plug-ins. Knows no TOML and no SQL."""
