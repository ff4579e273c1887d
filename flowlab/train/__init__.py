"""fit(cohort): batches, optimiser, schedule, checkpoints."""
