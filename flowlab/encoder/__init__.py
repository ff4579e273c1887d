"""Frozen encoders: a window becomes condition tokens. Pretraining too."""
