"""The table [split]: which whole drives, or time blocks of drives, train and which validate."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from flowlab.study.problems import require_each_once
from flowlab.study.recipe import Frozen

Name = Annotated[str, Field(min_length=1)]
StratumKey = Literal["driver", "track", "task"]


class BlockSettings(Frozen):
    """Cuts every drive into time blocks of `seconds`, each a drive of its own.

    Between two blocks `gap_s` seconds are left out, so that no two frames on either side are nearly the same.
    """

    seconds: float = Field(60.0, gt=0, le=86_400)
    gap_s: float = Field(2.0, ge=0, le=3600)

    @model_validator(mode="after")
    def _gap_is_shorter(self) -> Self:
        if self.gap_s >= self.seconds:
            raise ValueError(f"gap_s {self.gap_s:g} leaves nothing of blocks of {self.seconds:g} seconds. Lower it")
        return self


class PerStratum(Frozen):
    """`num` drives of each stratum: the drives that agree in all of `by`."""

    by: tuple[StratumKey, ...] = Field(strict=False, min_length=1)
    num: int = Field(1, ge=1, le=10**6)

    @field_validator("by", mode="before")
    @classmethod
    def _one_text(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        require_each_once("by", self.by)
        return self


class SplitSettings(Frozen):
    """Whole drives on one side each, or whole time blocks of drives where `blocks` cuts them.

    `val` names the validation drives, `num_val` takes the source's last ones, `val_per` the last ones of each stratum.
    `scale` and `choice` pick the train drives among the rest: overfit (one drive, train = val), pilot (30 of them),
    corpus (all), or `num_train`; the first ones by name, or stratified (the same number from every track and driver).
    `train_per` takes the first ones of each stratum instead. Drives named in `without` neither train nor validate.
    """

    scale: Literal["overfit", "pilot", "corpus"] = "corpus"
    choice: Literal["first", "stratified"] = "first"
    val: tuple[Name, ...] | None = Field(None, strict=False, min_length=1)
    num_val: int | None = Field(None, ge=1, le=10**6)
    val_per: PerStratum | None = None
    num_train: int | None = Field(None, ge=1, le=10**6)
    train_per: PerStratum | None = None
    without: tuple[Name, ...] = Field((), strict=False)
    blocks: BlockSettings | None = None

    @model_validator(mode="after")
    def _one_way_to_choose_each_side(self) -> Self:
        ways = [name for name in ("val", "num_val", "val_per") if getattr(self, name) is not None]
        if self.scale == "overfit":
            if ways or self.num_train is not None or self.train_per is not None:
                raise ValueError(
                    "scale 'overfit' uses one drive for both sides; it takes no val, num_val or num_train, nor val_per "
                    "or train_per"
                )
        elif len(ways) != 1:
            raise ValueError(
                "give either val (names of drives) or num_val (a number) or val_per (a number of each stratum), and "
                "one of them alone"
            )
        if self.train_per is not None and (self.num_train is not None or self.scale == "pilot"):
            other = "num_train" if self.num_train is not None else "scale 'pilot'"
            raise ValueError(f"train_per and {other} both say how many drives train. Leave one of them out")
        require_each_once("val", self.val or ())
        require_each_once("without", self.without)
        for drive in self.without:
            if drive in (self.val or ()):
                raise ValueError(f"{drive!r} is in val and in without; a drive that validates cannot be left out")
        return self

    def validating_on(self, drives: tuple[str, ...]) -> "SplitSettings":
        """The same with these validation drives, whatever chose them here."""
        return self.model_copy(update={"val": drives, "num_val": None, "val_per": None})
