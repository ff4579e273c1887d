"""experiments.toml -> one frozen Study: recipe, levers, rule, hashes. No torch."""
