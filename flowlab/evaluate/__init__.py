"""Draws, readouts, metrics by slice, and the noise bank that all runs draw from."""
