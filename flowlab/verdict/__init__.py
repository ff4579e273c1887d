"""Rules: sealed, judged, amended, simulated. All judging is SQL."""
