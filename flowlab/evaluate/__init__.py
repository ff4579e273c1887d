"""Draws -> readouts -> metrics by slice, and the noise bank that makes every run draw from the same numbers."""
