"""Frozen encoders: a window of frames, speeds and past actions becomes condition tokens. Pretraining too."""
