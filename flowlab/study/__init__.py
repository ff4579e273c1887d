"""experiments.toml -> one frozen Study: recipe, levers, rule, hashes. Imports no torch."""
