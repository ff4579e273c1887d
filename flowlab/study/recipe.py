"""Every setting of a run. A lever is a change to exactly these keys; the recipe's hash is what the ledger compares."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from flowlab.core.digest import digest_json
from flowlab.core.vocabulary import MERGED, MERGED_FROM
from flowlab.study.versions import spell

FLOAT32_EPS = 1.1920928955078125e-07
"""The distance from 1 to the next larger float32."""

LARGEST_SEED = 10**18 - 1
"""What a rule and --seeds take: the ledger's integers have room above it for the seeds that a replicate may get."""

Beta = Annotated[float, Field(ge=0, lt=1)]
Arithmetic = Literal["float32", "tf32", "bfloat16"]
Alpha = Annotated[float, Field(ge=0, le=10)]


def _as_channel(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name):
        raise ValueError(f"a channel is named by letters, digits, _, . and -, up to 64 of them. Rename {name!r}")
    return name


ChannelName = Annotated[str, AfterValidator(_as_channel)]


class Frozen(BaseModel):
    """A settings table: immutable, and a key it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class FlowTime(Frozen):
    """The law that training's flow times t are drawn from; 0 is noise, 1 is action.

    uniform; logit-normal: t = sigmoid(mean + std * normal), most of it near the middle of the path; beta:
    (end - t) / end ~ Beta(alpha, 1), denser towards the noise for alpha > 1 and never beyond `end`.
    """

    kind: Literal["uniform", "logit-normal", "beta"] = "logit-normal"
    mean: float = Field(0.0, ge=-20, le=20)
    std: float = Field(1.0, gt=0, le=20)
    alpha: float = Field(1.5, ge=0.01, le=100)
    end: float = Field(0.999, ge=0.01, le=1)


class ManeuverWeights(Frozen):
    """Label-distribution smoothing (Yang et al., ICML 2021): rare maneuvers weigh (1/density)^alpha, capped, mean 1.

    `channel_alpha` gives single model channels an alpha of their own: { steering = 1.0 }. `cap_on`: what is capped,
    (1/density)^alpha itself or its multiple of the mean. `edges`: how the density is smoothed at the ends of the range,
    with the outer bin repeated or the bins mirrored.
    """

    alpha: Alpha = 0.5
    channel_alpha: dict[str, Alpha] = {}
    cap: float = Field(15.0, ge=1, le=1e12)
    cap_on: Literal["inverse-density", "multiple-of-mean"] = "inverse-density"
    edges: Literal["repeat", "mirror"] = "repeat"


class ObjectiveSettings(Frozen):
    """What a run minimises: flow matching on straight paths, or plain regression.

    `delta_weighted`: whether maneuver weights weigh the delta loss too. Another `kind` is a plug-in, `module:attr`,
    which gets this whole table; `options` are for it alone.
    """

    kind: str = "flow"
    delta_weight: float = Field(10.0, ge=0, le=1e9)
    delta_weighted: bool = True
    coupling: Literal["independent", "optimal-transport"] = "independent"
    flow_time: FlowTime = FlowTime()
    lds: ManeuverWeights = ManeuverWeights()
    options: dict[str, Any] = {}


class ActionSpaceSettings(Frozen):
    """The space that the decoder sees: gas - brake merged into one signed channel, then a transform.

    `tails`: beyond the outer knots of gaussianize the map ends, or goes on as a straight line. `relative_floor`: of a
    coefficient's deviation in gaussianize-dct, as a share of the mean coefficient's.
    """

    merge: bool = True
    transform: Literal["gaussianize", "standardise", "identity", "mu-law", "chunk-dct", "gaussianize-dct"] = (
        "gaussianize"
    )
    knots: int = Field(256, ge=2, le=65536)
    tails: Literal["end", "linear"] = "end"
    mu: float = Field(255.0, ge=1e-3, le=1e6)
    sigma_floor: float = Field(0.01, ge=1e-6, le=1e3)
    relative_floor: float = Field(0.05, gt=0, le=1)


class DecoderSettings(Frozen):
    """The transformer that turns noise, flow time and condition into a velocity.

    `kind`: transformer, or slot-queries, the trunk without noise and flow time that a regression asks. Another one is a
    plug-in, `module:attr`, a plain nn.Module without the run axis; `options` are for it alone. `horizon`: how many
    slots it predicts; without it all that the cache holds.

    `init`: torch's defaults for nn.Linear and nn.MultiheadAttention, or xavier-uniform matrices and zero biases.
    `dropout_at`: attention weights, both attentions' results and the MLP's hidden layer, or all three results alone.
    `first_wave`: flow time goes through sinusoids of 1000 t 10^(-4 i / n), n of them from this i on; `logit_limit`:
    how near 0 and 1 its logit is taken.
    """

    kind: str = "transformer"
    width: int = Field(256, ge=8, le=16384)
    layers: int = Field(4, ge=1, le=512)
    heads: int = Field(4, ge=1, le=8192)
    dropout: float = Field(0.1, ge=0, lt=1)
    mlp_multiplier: float = Field(1.0, gt=0, le=64)
    horizon: int | None = Field(None, ge=1, le=4096)
    gate: Literal["gelu", "silu"] = "gelu"
    init: Literal["torch", "xavier"] = "torch"
    dropout_at: Literal["attention", "residuals"] = "attention"
    final_norm: bool = False
    adaln_silu: bool = False
    first_wave: Literal[0, 1] = 1
    logit_limit: float = Field(FLOAT32_EPS, ge=FLOAT32_EPS, lt=0.5)
    rotary_slots: bool = True
    rotary_base: float = Field(10.0, gt=1, le=1e9)
    slot_adaln: bool = False
    condition_norm: bool = False
    condition_projection: Literal["linear", "mlp", "none"] = "linear"
    condition_adaln: bool = False
    waypoint_embedding: bool = False
    image_tokens: bool = False
    options: dict[str, Any] = {}

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} must be a multiple of twice the heads ({self.heads})")
        if self.width % 4:  # at other widths a matrix product rounds differently for one run than for several
            raise ValueError(f"width {self.width} must be a multiple of 4")
        return self


class TrainSettings(Frozen):
    """AdamW with warm-up and a cosine to zero at the last step. An epoch is the whole batches that the split holds.

    `shuffle`: an epoch's order is one of single rows, or of blocks of 1024, whose rows are shuffled eight blocks at a
    time: a cache larger than the memory is streamed so. `arithmetic`: in which numbers matrix products are computed
    (policy/arithmetic.py); validation's too. `warmup_from_zero`: the first step has learning rate 0, or that
    of the warm-up's second. `history_dropout`: the share of samples that get the condition of the variant `no-history`.
    `ema_decay`: the policy is the moving average of its weights (0 turns it off). `sample_every`: how many epochs lie
    between two looks at one draw per validation frame, which costs as much as a few epochs' flow_mse (0: only at the
    end of the run). `keep_every`: how many epochs lie between two policies that are kept on the way (0: the last one
    alone).
    """

    arithmetic: Arithmetic = "float32"
    batch: int = Field(1024, ge=1, le=10**7)
    steps: int = Field(3500, ge=1, le=10**9)
    shuffle: Literal["rows", "blocks"] = "rows"
    lr: float = Field(1.6e-4, gt=0, le=1e38)
    warmup_steps: int = Field(200, ge=0, le=10**9)
    warmup_from_zero: bool = True
    betas: tuple[Beta, Beta] = Field((0.9, 0.95), strict=False)
    weight_decay: float = Field(0.1, ge=0, le=1e6)
    clip_norm: float = Field(1.0, gt=0, le=1e12)
    history_dropout: float = Field(0.0, ge=0, le=1)
    ema_decay: float = Field(0.0, ge=0, lt=1)
    sample_every: int = Field(10, ge=0, le=10**9)
    keep_every: int = Field(0, ge=0, le=10**9)


class EvaluationSettings(Frozen):
    """How draws are made at the end of a run. K draws per validation frame from one noise bank shared by all runs.

    `clip`: what is read out of the draws is held within each channel's actuator range before it is scored, as a car
    does; channels whose range is not known stay as they are. `precision`: the draws are kept as such numbers of model
    space, and what is scored is what is kept. `arithmetic`: in which numbers the draws' matrix products are computed
    (policy/arithmetic.py).
    """

    draws: int = Field(32, ge=1, le=10**6)
    solver: Literal["euler", "midpoint", "heun", "ab2"] = "heun"
    solver_steps: int = Field(32, ge=1, le=10**6)
    noise_scale: float = Field(1.0, gt=0, le=1e3)
    bank_seed: int = Field(0, ge=0, le=LARGEST_SEED)
    clip: bool = True
    precision: Literal["float16", "float32"] = "float32"
    arithmetic: Arithmetic = "float32"


class Recipe(Frozen):
    """Every setting of a run but its seed."""

    objective: ObjectiveSettings = ObjectiveSettings()
    action_space: ActionSpaceSettings = ActionSpaceSettings()
    decoder: DecoderSettings = DecoderSettings()
    train: TrainSettings = TrainSettings()
    evaluation: EvaluationSettings = EvaluationSettings()

    def to_json(self) -> dict:
        """The whole recipe as plain JSON, defaults included; -0.0 is 0.0."""
        return _without_negative_zeros(self.model_dump(mode="json"))

    def digest(self, cache_id: str) -> str:
        """The name of this recipe trained from that cache, the same whichever version of flowlab wrote it."""
        return digest_json({"recipe": spell(self.to_json()), "cache_id": cache_id})

    @property
    def slots_in_time(self) -> bool:
        """Whether a model chunk has several slots that follow each other in time: what a delta loss needs."""
        return self.decoder.horizon != 1 and self.action_space.transform not in ("chunk-dct", "gaussianize-dct")


def _without_negative_zeros(value: Any) -> Any:
    """The same JSON value; two recipes that differ by the sign of a zero are one."""
    if isinstance(value, dict):
        return {key: _without_negative_zeros(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_negative_zeros(one) for one in value]
    return 0.0 if isinstance(value, float) and value == 0 else value


def model_channels(settings: ActionSpaceSettings, raw_channels: tuple[str, ...]) -> tuple[str, ...]:
    """The names of the M model channels, in order."""
    if not settings.merge:
        return raw_channels
    return (MERGED, *(name for name in raw_channels if name not in MERGED_FROM))
