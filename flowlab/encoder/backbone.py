"""One adapter for all vision models of transformers: it asks the model what its tokens are, and assumes nothing.

The model is frozen: eval mode always (in train mode DINOv3 moves its positions at random, and ViT-MAE hides patches in
either), no gradients, the type of numbers that was asked for and not that of the file, attention by torch's
scaled_dot_product_attention where the model has it (else "eager"), which gives the same bits each time. What opening it
cannot prove is refused: two passes that differ, rows of the image that are never seen, weights that are in no file.
"""

import inspect
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowlab.core.errors import EncoderError, MissingError, told_by
from flowlab.encoder.backbone_checks import require_sound
from flowlab.encoder.layout import Layout, ask_layout
from flowlab.encoder.model_folder import INSTALL, ModelFolder
from flowlab.study.huggingface import HuggingFaceSettings

ATTENTION = ("sdpa", "eager")
ENCODE_BLOCK = 64
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
PROBE_SEED = 0


@dataclass(frozen=True)
class FrameTokens:
    """What a model says of N frames: one pooled token each, and those that become image tokens, if any."""

    pooled: Tensor  # (N, C)
    image: Tensor | None  # (N, G, C)


class Backbone(nn.Module):
    """A frozen vision model: images (N, height, width, 3) uint8 -> FrameTokens in float32."""

    def __init__(self, model: nn.Module, folder: ModelFolder, settings: HuggingFaceSettings) -> None:
        super().__init__()
        self.model, self.folder, self.settings = model, folder, settings
        self.size = folder.size(settings)
        self.dtype = DTYPES[settings.dtype]
        names = inspect.signature(model.forward).parameters
        self.takes_patches = "spatial_shapes" in names
        self.interpolates = "interpolate_pos_encoding" in names and not self._is_at_home()
        self.requires_grad_(False)
        self.eval()
        self.layout = self._ask()

    @property
    def config(self) -> Any:
        return self.model.config

    @property
    def num_image_tokens(self) -> int:
        """How many image tokens each frame has."""
        match self.settings.pool:
            case "patches":
                return self.settings.image_grid**2 or self.layout.num_patches
            case "registers":
                return self.layout.num_registers
        return 0

    def train(self, mode: bool = True) -> Self:  # noqa: ARG002
        """Stays in eval mode, whatever is asked of the module that it is a part of."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> FrameTokens:
        """Frames are taken in blocks of 64: what a large model makes of more at once may not fit into memory."""
        if torch.onnx.is_in_onnx_export():  # a graph is of any number of frames
            return self._take(self._tokens(images))
        blocks = [self._take(self._tokens(block)) for block in images.split(ENCODE_BLOCK)]
        pooled = torch.cat([block.pooled for block in blocks])
        image = [block.image for block in blocks if block.image is not None]
        return FrameTokens(pooled, torch.cat(image) if image else None)

    def _tokens(self, images: Tensor) -> Tensor:
        """(N, height, width, 3) uint8 -> the tokens of the layer asked for, (N, L, C) float32, maps row by row."""
        picked = self._pick(self._pass(images, hidden=self.settings.layer is not None))
        return (picked.flatten(2).transpose(1, 2) if picked.ndim == 4 else picked).float()

    def _take(self, tokens: Tensor) -> FrameTokens:
        layout, settings = self.layout, self.settings
        patches = tokens[:, layout.num_prefix :]
        match settings.pool:
            case "cls":
                return FrameTokens(tokens[:, 0], None)
            case "mean":
                return FrameTokens(patches.mean(dim=1), None)
            case "registers":
                registers = tokens[:, layout.num_prefix - layout.num_registers : layout.num_prefix]
                return FrameTokens(registers.mean(dim=1), registers)
        if settings.image_grid:
            assert layout.grid is not None
            in_rows = patches.transpose(1, 2).unflatten(2, layout.grid)
            patches = F.adaptive_avg_pool2d(in_rows, settings.image_grid).flatten(2).transpose(1, 2)
        return FrameTokens(patches.mean(dim=1), patches)

    def _pass(self, images: Tensor, hidden: bool) -> Any:
        """The model's own output for frames (N, height, width, 3)."""
        pixels = self.folder.preparation(images).to(self.dtype)
        asked: dict[str, Any] = {"output_hidden_states": True} if hidden else {}
        if self.interpolates:
            asked["interpolate_pos_encoding"] = True
        if self.takes_patches:
            return self.model(*self._patches(pixels), **asked)
        return self.model(pixels, **asked)

    def _patches(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What SigLIP 2 (naflex) takes: packed patches, colours last (N, L, p * p * 3); a mask; rows and columns."""
        num, _, height, width = pixels.shape
        side = self.config.patch_size
        rows, columns = height // side, width // side
        filled = pixels[:, :, : rows * side, : columns * side].reshape(num, 3, rows, side, columns, side)
        packed = filled.permute(0, 2, 4, 3, 5, 1).reshape(num, rows * columns, -1)
        mask = torch.ones(packed.shape[:2], dtype=torch.int32, device=pixels.device)
        return packed, mask, torch.tensor([[rows, columns]], device=pixels.device).expand(num, 2)

    def _pick(self, output: Any) -> Tensor:
        layer = self.settings.layer
        if layer is None:
            return output.last_hidden_state
        states = output.hidden_states
        if layer >= len(states):
            raise EncoderError(
                f"model {self.folder.name!r} has hidden states 0 to {len(states) - 1}, and encoder.layer is {layer}."
            )
        return states[layer]

    def _is_at_home(self) -> bool:
        """Whether images have the size that the model's positions were made for."""
        own = getattr(self.config, "image_size", None)
        return own is None or self.size == (tuple(own) if isinstance(own, list | tuple) else (own, own))

    @torch.no_grad()
    def _ask(self) -> Layout:
        """What the model's tokens are, asked by one pass over two images. Raises EncoderError where it cannot see."""
        try:
            output = self._pass(self.samples(2), hidden=True)
            picked = self._pick(output)
        except EncoderError:
            raise
        except Exception as error:  # whatever a model does that is no plain vision model
            raise self._cannot_see(error) from None
        return ask_layout(self.folder.name, self.config, output, picked, self.settings, self.size)

    def samples(self, num: int) -> Tensor:
        """(num, height, width, 3) uint8, random and each time the same, on the model's device."""
        stream = torch.Generator().manual_seed(PROBE_SEED)
        images = torch.randint(0, 256, (num, *self.size, 3), generator=stream, dtype=torch.uint8)
        return images.to(next(self.model.parameters()).device)

    def _cannot_see(self, error: Exception) -> EncoderError:
        height, width = self.size
        own = getattr(self.config, "image_size", None)
        hint = "" if own is None or self._is_at_home() else f" Its own size is {own}: set that."
        return EncoderError(
            f"model {self.folder.name!r} ({type(self.model).__name__}) makes no tokens of images of {height} x "
            f"{width} (encoder.image_height x encoder.image_width): {told_by(error).rstrip('.')}.{hint}"
        )


def open_backbone(folder: ModelFolder, settings: HuggingFaceSettings, device: torch.device | str = "cpu") -> Backbone:
    """The model in `folder`, frozen on `device`. Raises EncoderError, or MissingError where transformers is not there.

    Nothing global is changed: not the random state, nor what transformers says to others.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import transformers
    except ImportError:
        raise MissingError(f"encoder.kind 'huggingface' needs transformers, which is missing. {INSTALL}") from None
    with quiet(transformers), torch.random.fork_rng(devices=[]):
        whole, info = _load(transformers, folder, DTYPES[settings.dtype])
        model = getattr(whole, "vision_model", whole).to(device)
        backbone = Backbone(model, folder, settings)
        require_sound(backbone, _absent(whole, model, info["missing_keys"]))
    return backbone


def _absent(whole: nn.Module, model: nn.Module, names: Collection[str]) -> dict[str, Tensor]:
    """The weights of `model`, a part of `whole`, that have these names there."""
    own = {id(value) for value in (*model.parameters(), *model.buffers())}
    values = dict(whole.named_parameters()) | dict(whole.named_buffers())
    return {name: value for name, value in values.items() if name in names and id(value) in own}


def _load(transformers: Any, folder: ModelFolder, dtype: torch.dtype) -> tuple[nn.Module, dict[str, Any]]:
    for attention in ATTENTION:
        try:
            return transformers.AutoModel.from_pretrained(
                str(folder.path),
                dtype=dtype,
                attn_implementation=attention,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
        except Exception as error:  # transformers', safetensors', torch's: each has its own
            if attention != ATTENTION[-1] and isinstance(error, ValueError) and "attention" in str(error):
                continue
            raise EncoderError(
                f"model {folder.name!r} cannot be opened by transformers {transformers.__version__}: "
                f"{told_by(error).rstrip('.')}. Fetch it anew, or take another."
            ) from None
    raise AssertionError


@contextmanager
def quiet(transformers: Any) -> Iterator[None]:
    """transformers without warnings and progress bars; both as they were afterwards."""
    logging = transformers.utils.logging
    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()
