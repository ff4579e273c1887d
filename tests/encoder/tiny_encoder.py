"""The smallest drive-vit that still has every part."""

from flowlab.study.settings import DriveViTSettings

TINY = DriveViTSettings(
    width=16,
    image_height=8,
    image_width=8,
    patch=4,
    image_width_tokens=16,
    image_layers=1,
    temporal_layers=1,
    heads=2,
    image_steps=20,
    image_batch=16,
    window_steps=30,
    window_batch=16,
    train_lr=3e-3,
)
