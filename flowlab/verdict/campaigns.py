"""Campaigns whose truth is known: what is drawn, and every run of them that a rule could look at."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from flowlab.core.seeds import numpy_stream
from flowlab.study.rule import PUBLISHED_SIGMA, Rule
from flowlab.verdict.design import choose_design, contrast_weights

if TYPE_CHECKING:
    import pyarrow

CONTROL_MEAN = 0.35  # any value will do: rules look at differences

Noise = Literal["normal", "t3"]
REAL, LOUD, NULL = "real", "loud", "null"


@dataclass(frozen=True)
class Campaigns:
    """What is simulated. Values are errors, lower is better, in the primary metric's units.

    A run's value is the control's mean, less the effect if its lever is real, plus sigma times a draw of `noise` (of
    variance 1; t3 is Student's with 3 degrees of freedom) of which the share rho is common to all runs at one seed.
    With `spread`, each lever has its own sigma: sigma times exp(spread times a standard normal).

    num_loud: so many of the levers without effect have `loud` times that. half_rho: rho is 0 for the real levers and
    every other one without effect. sealed_df: bars are in units of a sigma that each campaign has measured, before and
    apart, with so many degrees of freedom; None where they stand as the rule has them.

    Of a row of a screen, that has many levers on: `overlap` is by what share of the effect each real lever beyond the
    first is worth less beside others; interactions (of every pair of levers) and real_interactions (of pairs of real
    ones) are the standard deviations of what a pair adds where both are on. rows: as many at least as there should be.
    """

    levers: int
    real: int
    effect: float
    sigma: float
    rho: float
    spread: float
    campaigns: int
    seed: int
    noise: Noise = "normal"
    loud: float = 1.0
    num_loud: int = 0
    half_rho: bool = False
    sealed_df: int | None = None
    overlap: float = 0.0
    interactions: float = 0.0
    real_interactions: float = 0.0
    rows: int | None = None

    @property
    def kinds(self) -> list[str]:
        """What each lever is: the real ones first, then the loud, then the others without effect."""
        return [REAL] * self.real + [LOUD] * self.num_loud + [NULL] * (self.levers - self.real - self.num_loud)

    @property
    def names(self) -> list[str]:
        return [f"{kind}-{index}" for index, kind in enumerate(self.kinds)]

    @property
    def rhos(self) -> list[float]:
        """The share of each lever's noise that is its seed's."""
        if not self.half_rho:
            return [self.rho] * self.levers
        return [0.0 if kind == REAL or index % 2 else self.rho for index, kind in enumerate(self.kinds)]


@dataclass(frozen=True)
class Screen:
    """The design that all campaigns screen by: `on` (rows, levers), weights (levers, rows), a seed for each row."""

    on: NDArray[np.bool_]
    weights: NDArray[np.float64]
    row_names: list[str]
    seeds: list[int]


def screen_of(rule: Rule, asked: Campaigns) -> Screen | None:
    """The design of a rule that confirms what a screen sends on, of levers that all combine; None for other rules."""
    if rule.screen is None:
        return None
    on = choose_design(asked.levers, num_rows=asked.rows).on
    first = max(*rule.control_seeds, *rule.judged_seeds) + 1
    return Screen(on, contrast_weights(on), [f"row-{i}" for i in range(len(on))], list(range(first, first + len(on))))


@dataclass(frozen=True)
class Drawn:
    """Runs (campaign, lever, seed, value), and by how much the values of each campaign were scaled."""

    runs: "pyarrow.Table"
    scales: NDArray[np.float64]


def draw(rule: Rule, asked: Campaigns, screen: Screen | None, block: int, num: int) -> Drawn:
    """Every run that the rule could look at in `num` campaigns.

    To compare with bars times a measured sigma is to compare values divided by it: so a campaign's are scaled by the
    sigma that the rule's bars stand for over the one that the campaign has measured, and effects are to be scaled back.
    """
    import pyarrow

    stream = numpy_stream(asked.seed, "simulate", block)
    seeds = np.array(sorted({*rule.panel_seeds, *rule.judged_seeds}))
    common = _noise(stream, (num, len(seeds)), asked.noise)  # what runs of one seed share
    sigmas = asked.sigma * np.exp(asked.spread * stream.standard_normal((num, 1 + asked.levers)))
    sigmas[:, 0] = asked.sigma
    sigmas[:, 1:] *= [asked.loud if kind == LOUD else 1.0 for kind in asked.kinds]
    names = ["control", *asked.names]
    values, own_seeds = [], []
    for index, (name, rho) in enumerate(zip(names, [asked.rho, *asked.rhos], strict=True)):
        own = np.array(rule.panel_seeds if name == "control" else rule.judged_seeds)
        shared = common[:, np.searchsorted(seeds, own)]
        noise = np.sqrt(rho) * shared + np.sqrt(1 - rho) * _noise(stream, shared.shape, asked.noise)
        centre = CONTROL_MEAN - (asked.effect if name.startswith(REAL) else 0.0)
        values.append(centre + sigmas[:, index, None] * noise)
        own_seeds.append(own)
    if screen is not None:
        names += screen.row_names
        values += list(_rows(asked, screen, stream, num).T[:, :, None])
        own_seeds += [np.array([seed]) for seed in screen.seeds]
    scales = _scales(rule, asked, stream, num)
    widths = [len(own) for own in own_seeds]
    value = CONTROL_MEAN + (np.concatenate(values, axis=1) - CONTROL_MEAN) * scales[:, None]
    lever_names = pyarrow.DictionaryArray.from_arrays(
        pyarrow.array(np.tile(np.repeat(np.arange(len(names), dtype=np.int32), widths), num)), pyarrow.array(names)
    )
    runs = {
        "campaign": np.repeat(np.arange(num), sum(widths)),
        "lever": lever_names.cast("string"),
        "seed": np.tile(np.concatenate(own_seeds), num),
        "value": value.ravel(),
    }
    return Drawn(pyarrow.table(runs), scales)


def _noise(stream: np.random.Generator, shape: tuple[int, ...], noise: Noise) -> NDArray[np.float64]:
    """Draws of variance 1: a t of 3 degrees of freedom has 3."""
    return stream.standard_normal(shape) if noise == "normal" else stream.standard_t(3, shape) / np.sqrt(3)


def _rows(asked: Campaigns, screen: Screen, stream: np.random.Generator, num: int) -> NDArray[np.float64]:
    """What each campaign's rows end with: (campaigns, rows)."""
    real = screen.on[:, : asked.real]
    num_real = real.sum(axis=1)
    gain = asked.effect * (num_real - asked.overlap * np.maximum(num_real - 1, 0))
    together = _pairs_together(screen.on, asked.interactions, stream, num)
    together += _pairs_together(real, asked.real_interactions, stream, num)
    return CONTROL_MEAN - gain - together + asked.sigma * _noise(stream, (num, len(screen.on)), asked.noise)


def _pairs_together(on: NDArray[np.bool_], sd: float, stream: np.random.Generator, num: int) -> NDArray[np.float64]:
    """What pairs of levers add to each row, (campaigns, rows), if each pair is worth sd times a standard normal.

    Two rows share n (n - 1) / 2 pairs, where n levers are on in both: that, times sd squared, is their covariance.
    """
    if not sd:
        return np.zeros((num, len(on)))
    both = on.astype(float) @ on.T
    variances, directions = np.linalg.eigh(sd**2 * both * (both - 1) / 2)
    root = directions * np.sqrt(np.maximum(variances, 0.0))
    return stream.standard_normal((num, len(on))) @ root.T


def _scales(rule: Rule, asked: Campaigns, stream: np.random.Generator, num: int) -> NDArray[np.float64]:
    if asked.sealed_df is None:
        return np.ones(num)
    meant = PUBLISHED_SIGMA if rule.sigma is None else rule.sigma.value
    return meant / (asked.sigma * np.sqrt(stream.chisquare(asked.sealed_df, num) / asked.sealed_df))
