"""The smallest vision models of transformers, with random weights, saved as people have them on disk."""

import json
import warnings
from pathlib import Path
from typing import Any

import torch

MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]
BODY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
VIT = BODY | {"image_size": 32, "patch_size": 8}
TEXT = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 8,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
STAGES = {"hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 1, 1], "image_size": 64}
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "dinov3": ("DINOv3ViT", VIT | {"num_register_tokens": 4}),
    "dinov2": ("Dinov2", VIT | {"image_size": 42, "patch_size": 14, "mlp_ratio": 2}),
    "dinov2-registers": ("Dinov2WithRegisters", VIT | {"num_register_tokens": 4, "mlp_ratio": 2}),
    "siglip": ("Siglip", {"text_config": TEXT, "vision_config": VIT}),
    "siglip-vision": ("SiglipVision", VIT),
    "siglip2": ("Siglip2", {"text_config": TEXT, "vision_config": BODY | {"patch_size": 8, "num_patches": 16}}),
    "clip": ("CLIP", {"text_config": TEXT, "vision_config": VIT, "projection_dim": 8}),
    "vit": ("ViT", VIT),
    "deit": ("DeiT", VIT),
    "vit-mae": ("ViTMAE", VIT),
    "yolos": ("Yolos", VIT | {"image_size": [32, 32], "num_detection_tokens": 5}),
    "swin": ("Swin", {"embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4, "image_size": 32}),
    "convnextv2": ("ConvNextV2", STAGES),
    "dinov3-convnext": ("DINOv3ConvNext", STAGES),
}
SIZES = {"dinov2": 42, "convnextv2": 64, "dinov3-convnext": 64}
"""Of the images that a kind is shown; the others see 32 x 32."""


def transformers() -> Any:
    """The library; it may warn as it is imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import transformers as library

        return library


def plain(kind: str, seed: int = 0) -> Any:
    """A model of that kind as transformers makes it, in eval mode."""
    name, config = CONFIGS[kind]
    library = transformers()
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        return getattr(library, f"{name}Model")(getattr(library, f"{name}Config")(**config)).eval()


def save(kind: str, folder: Path, seed: int = 0) -> Any:
    """The model, saved in `folder` with a preprocessor file beside it."""
    model = plain(kind, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save_pretrained(folder)
    side = SIZES.get(kind, 32)
    write_preprocessor(folder, size={"height": side, "width": side})
    return model


def write_preprocessor(folder: Path, **table: Any) -> None:
    """A preprocessor file with MEAN and STD, unless `table` says otherwise; None leaves a key out."""
    whole = {"do_normalize": True, "image_mean": MEAN, "image_std": STD, "rescale_factor": 1 / 255} | table
    folder.mkdir(parents=True, exist_ok=True)
    kept = {key: value for key, value in whole.items() if value is not None}
    (folder / "preprocessor_config.json").write_text(json.dumps(kept))


def normalised(images: torch.Tensor) -> torch.Tensor:
    """(N, height, width, 3) uint8 -> (N, 3, height, width), as a processor with MEAN and STD would."""
    return ((images / 255 - torch.tensor(MEAN)) / torch.tensor(STD)).permute(0, 3, 1, 2)


@torch.no_grad()
def plain_output(model: Any, images: torch.Tensor) -> Any:
    """What transformers itself gives for frames, by the vision part where there are two."""
    vision = getattr(model, "vision_model", model)
    pixels = normalised(images)
    if "siglip2" not in vision.config.model_type:
        return vision(pixels, output_hidden_states=True)
    num, side = len(pixels), vision.config.patch_size
    rows, columns = pixels.shape[2] // side, pixels.shape[3] // side
    packed = torch.stack([patches(image, side) for image in pixels])
    padded = torch.nn.functional.pad(packed, (0, 0, 0, 5))  # as the processor pads images of unlike shapes
    mask = torch.cat([torch.ones(num, rows * columns), torch.zeros(num, 5)], dim=1).long()
    out = vision(padded, mask, torch.tensor([[rows, columns]] * num), output_hidden_states=True)
    out.last_hidden_state = out.last_hidden_state[:, : rows * columns]
    return out


def patches(image: torch.Tensor, side: int) -> torch.Tensor:
    """(3, height, width) -> one line per patch, row by row: its pixels, row by row, each with its three colours."""
    _, height, width = image.shape
    return torch.stack(
        [
            image[:, top : top + side, left : left + side].permute(1, 2, 0).flatten()
            for top in range(0, height, side)
            for left in range(0, width, side)
        ]
    )
