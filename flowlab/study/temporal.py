"""The keys of the temporal part that stands on a frozen image part, whatever that is, and of its pretraining."""

from pydantic import Field

from flowlab.study.recipe import LARGEST_SEED, Frozen


class TemporalPart(Frozen):
    """A small transformer over the frames and the past of a window. How wide it is, each encoder says for itself."""

    temporal_layers: int = Field(2, ge=1, le=512)
    heads: int = Field(4, ge=1, le=8192)
    window_steps: int = Field(2000, ge=1, le=10**9)
    window_batch: int = Field(128, ge=1, le=10**6)
    train_lr: float = Field(1e-3, gt=0, le=1e6)
    history_dropout: float = Field(0.3, ge=0, lt=1)
    seed: int = Field(0, ge=0, le=LARGEST_SEED)
