"""fit(cohort): optimiser, schedule, checkpoints."""
