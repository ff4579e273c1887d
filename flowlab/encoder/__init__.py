"""Frozen encoders: a window of frames, speeds and past actions becomes condition tokens. Also how flowlab's own is pretrained and kept."""
