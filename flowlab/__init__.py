"""Experiment databases for people who train small heads on big frozen encoders."""
