"""Every setting of a run. A lever is a change to exactly these keys; the recipe's hash is what the ledger compares."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from flowlab.core.digest import digest_json

Beta = Annotated[float, Field(ge=0, lt=1)]


class Frozen(BaseModel):
    """A settings table: immutable, and a key it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class LogitNormal(Frozen):
    """Flow time t = sigmoid(mean + std * normal): most of the training near the middle of the path."""

    kind: Literal["logit-normal"] = "logit-normal"
    mean: float = 0.0
    std: float = Field(1.0, gt=0)


class ManeuverWeights(Frozen):
    """Label-distribution smoothing (Yang et al., ICML 2021): rare maneuvers weigh (1/density)^alpha, capped, mean 1."""

    alpha: float = Field(0.5, ge=0)
    cap: float = Field(15.0, ge=1)


class FlowObjective(Frozen):
    """Conditional flow matching on straight paths, with the within-chunk delta loss."""

    kind: Literal["flow"] = "flow"
    delta_weight: float = Field(10.0, ge=0)
    flow_time: LogitNormal = LogitNormal()
    lds: ManeuverWeights = ManeuverWeights()


class ActionSpaceSettings(Frozen):
    """The space that the decoder sees: gas - brake merged into one signed channel, then a per-channel transform."""

    merge: bool = True
    transform: Literal["gaussianize", "standardise", "identity"] = "gaussianize"
    knots: int = Field(256, ge=2)


class DecoderSettings(Frozen):
    """The transformer that turns noise, flow time and condition into a velocity."""

    width: int = Field(256, ge=8)
    layers: int = Field(4, ge=1)
    heads: int = Field(4, ge=1)
    dropout: float = Field(0.1, ge=0, lt=1)
    mlp_multiplier: float = Field(1.0, gt=0)

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} must be a multiple of twice the heads ({self.heads})")
        return self


class TrainSettings(Frozen):
    """AdamW with warm-up and a cosine to zero at the last step. An epoch is the whole batches that the split holds."""

    batch: int = Field(1024, ge=1)
    steps: int = Field(3500, ge=1)
    lr: float = Field(1.6e-4, gt=0)
    warmup_steps: int = Field(200, ge=0)
    betas: tuple[Beta, Beta] = Field((0.9, 0.95), strict=False)
    weight_decay: float = Field(0.1, ge=0)
    clip_norm: float = Field(1.0, gt=0)


class EvaluationSettings(Frozen):
    """How draws are made at the end of a run. K draws per validation frame from one noise bank shared by all runs."""

    draws: int = Field(32, ge=1)
    solver: Literal["euler", "midpoint", "heun"] = "heun"
    solver_steps: int = Field(32, ge=1)
    noise_scale: float = Field(1.0, gt=0)
    bank_seed: int = Field(0, ge=0)


class Recipe(Frozen):
    """Every setting of a run but its seed."""

    objective: FlowObjective = FlowObjective()
    action_space: ActionSpaceSettings = ActionSpaceSettings()
    decoder: DecoderSettings = DecoderSettings()
    train: TrainSettings = TrainSettings()
    evaluation: EvaluationSettings = EvaluationSettings()

    def to_json(self) -> dict:
        """The whole recipe as plain JSON, defaults included."""
        return self.model_dump(mode="json")

    def digest(self, cache_id: str) -> str:
        """The name of this recipe trained from that cache."""
        return digest_json({"recipe": self.to_json(), "cache_id": cache_id})
