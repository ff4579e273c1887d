"""The table [encoder] of a frozen Hugging Face backbone: which model, which of its tokens, what is put on top."""

from typing import Literal, Self

from pydantic import Field, model_validator

from flowlab.study.temporal import TemporalPart

HUGGING_FACE: Literal["huggingface"] = "huggingface"
TOKEN_POOLS = ("patches", "registers")
"""Pools that give the condition image tokens; the others are one token a frame."""


class TemporalSettings(TemporalPart):
    """The temporal part with its width."""

    width: int


class HuggingFaceSettings(TemporalPart):
    """A vision model in transformers' format, frozen: a folder, or the name of one on the hub.

    `layer` k takes the model's hidden_states[k] (0 is what enters its first block), none its last_hidden_state. `pool`
    says which of its tokens become a frame's: the class token, the mean of the patch tokens, or all patch or register
    tokens, which are then the condition's image tokens (patches averaged over `image_grid` x `image_grid` parts of the
    image, 0: all of them). Sizes that are not given are those of the model's preprocessor file.

    `temporal = "none"` puts nothing on top: the model's tokens of now, the past and the waypoints as plain numbers. The
    keys from `width` on are those of the part on top, and are not looked at where there is none: a lever could not take
    a width away.
    """

    kind: Literal["huggingface"]
    model: str = Field(min_length=1, max_length=4096)
    layer: int | None = Field(None, ge=0, le=10_000)
    pool: Literal["cls", "mean", "patches", "registers"] = "mean"
    image_grid: int = Field(0, ge=0, le=256)
    image_height: int | None = Field(None, ge=1, le=8192)
    image_width: int | None = Field(None, ge=1, le=8192)
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    temporal: Literal["transformer", "none"] = "transformer"
    width: int | None = Field(None, ge=8, le=16384)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.image_grid and self.pool != "patches":
            raise ValueError(f"image_grid averages patch tokens, and pool is {self.pool!r}. Set pool = 'patches'")
        if self.is_trained and self.width is not None and self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} must be a multiple of twice the heads ({self.heads})")
        return self

    @property
    def makes_image_tokens(self) -> bool:
        return self.pool in TOKEN_POOLS

    @property
    def is_trained(self) -> bool:
        """Whether there is anything to pretrain before the encoder is frozen."""
        return self.temporal == "transformer"

    def temporal_part(self, hidden: int) -> TemporalSettings:
        """The settings of the part on top of a model whose tokens are `hidden` wide."""
        given = self.model_dump(include=set(TemporalSettings.model_fields))
        return TemporalSettings(**given | {"width": self.width or hidden})
