"""What are the ledger's statistics worth? Campaigns whose truth is known, asked through the views of docs/views.md.

- campaigns: --levers levers under each of --presets, none or --real of them better by --effect, each with the runs that
  the rule asked for and no others. sigma is told over true (root of the mean square), held how often its 95% interval
  holds it, df its degrees of freedom, unequal the share of levers told to spread otherwise. Of stacked levers, null or
  real: what effect and raw_effect say, by how much their panel was worse than the truth, how often raw +- t x
  seed_noise holds it. q: in how many campaigns one is below 0.1, the share of nulls among these, that of the real ones.
- rho: of 3 or --levers levers at 2 to 8 seeds of the panel. luck: panels with a control that is told lucky or unlucky.
- drives: evaluation_noise where drives are alike, and where other drives would change an effect by 0.010.

Noise is normal; rho is the share of a run's variance that all runs at its seed have in common; spread is that of the
logarithm of levers' own sigmas. Prints tables and writes benchmarks/results/advice.json. Small: --campaigns 50.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import numpy as np
import pyarrow
from numpy.typing import NDArray
from scipy import stats

from flowlab.core.seeds import numpy_stream
from flowlab.ledger.scratch import fill, scratch_ledger
from flowlab.study.rule import PRESETS, Rule, preset_rule

CONTROL_MEAN = 0.35
CONTROLS = {"panel": 4}  # of the published pilot; 8 otherwise
BLOCK = 500  # campaigns judged at once
KEEP = """
select arrived.*
from arrived
left join reached on reached.campaign = arrived.campaign and reached.lever = arrived.lever
where arrived.lever = 'control' or arrived.judged_position <= reached.last_seed
"""
EFFECTS = """
select
    effects.lever like 'real%' as is_real, decisions.decision = 'stack' as is_stacked,
    decisions.effect, effects.raw_effect, effects.seed_noise, effects.df, panel_mean, q_value,
    effects.base_id as campaign
from effects
join decisions using (rule_digest, base_id, lever, recipe_digest)
join panel_stats using (rule_digest, base_id)
join false_discoveries using (rule_digest, base_id, lever, recipe_digest)
"""

FILL_DRIVES = """
insert into metrics by name
select
    lever || '-' || seed || '-' || campaign as run_id, unnest([metric, 'num_frames']) as metric,
    unnest([channel, '']) as channel, slice, by_drive.drive, readout, 0 as number_key, -1 as step,
    unnest([value, 100]) as value, 1 as time_us, 1 as entry
from by_drive cross join (select metric, channel, slice, readout from rules)
"""


class Truth(NamedTuple):
    """What levers are worth, and how runs vary."""

    levers: int
    real: int
    effect: float
    sigma: float
    rho: float
    spread: float = 0.0


def main() -> None:
    asked = options()
    found: dict[str, Any] = {"asked": vars(asked)}
    ways = [Truth(asked.levers, 0, asked.effect, asked.sigma, rho) for rho in asked.rhos]
    ways += [way._replace(real=asked.real) for way in ways] + [way._replace(spread=0.5) for way in (ways[0], ways[-1])]
    found["campaigns"] = [
        {"preset": name, "real": way.real, "rho": way.rho, "spread": way.spread}
        | of_campaigns(preset_rule(name, CONTROLS.get(name, 8)), way, asked.campaigns)
        for name in asked.presets
        for way in ways
    ]
    found["rho"] = [
        {"levers": num, "seeds": seeds, "true": rho} | of_correlation(num, seeds, rho, asked.campaigns)
        for num in (3, asked.levers)
        for seeds in (2, 4, 8)
        for rho in asked.rhos
    ]
    found["luck"] = [{"controls": num} | of_luck(num, 10 * asked.campaigns) for num in (4, 8, 12)]
    found["drives"] = [
        {"drives": num, "seeds": seeds, "true": noise} | of_drives(num, seeds, noise, asked.campaigns)
        for num in (5, 20)
        for seeds in (2, 4)
        for noise in (0.0, 0.010)
    ]
    for name, rows in found.items():
        if name != "asked":
            print_table(name, rows)
    path = Path(__file__).parent / "results" / "advice.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(found, indent=2) + "\n")


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="What the ledger's statistics are worth.")
    parser.add_argument("--presets", nargs="+", choices=list(PRESETS), default=["climb", "panel", "fresh"])
    parser.add_argument("--campaigns", type=int, default=1000)
    parser.add_argument("--levers", type=int, default=35)
    parser.add_argument("--real", type=int, default=3)
    parser.add_argument("--effect", type=float, default=0.02)
    parser.add_argument("--sigma", type=float, default=0.014)
    parser.add_argument("--rhos", type=float, nargs="+", default=[0.0, 0.5, 0.9])
    return parser.parse_args()


def of_campaigns(rule: Rule, truth: Truth, num: int) -> dict[str, float | None]:
    """What sigma, effects, q_values and unequal_variance were worth in `num` campaigns under `rule`."""
    sigmas, effects, unequal, panels = [], [], [], []
    with scratch_ledger(rule) as ledger:
        for first in range(0, num, BLOCK):
            runs = runs_of(truth, min(BLOCK, num - first), rule.panel_seeds, rule.judged_seeds, first)
            run_what_is_owed(ledger, runs)
            sigmas.append(ask(ledger, "select sigma, sigma_low, sigma_high, df from pooled_sigma"))
            effects.append(ask(ledger, EFFECTS))
            unequal.append(ask(ledger, "select is_unequal from unequal_variance where is_unequal is not null"))
            panels.append(ask(ledger, "select panel_mean from panel_stats"))
    sigma, effect, told = joined(sigmas), joined(effects), joined(unequal)
    held = (sigma["sigma_low"] <= truth.sigma) & (truth.sigma <= sigma["sigma_high"])
    answer: dict[str, float | None] = {
        "sigma": float(np.sqrt(np.mean(sigma["sigma"] ** 2)) / truth.sigma),
        "held": float(np.mean(held)),
        "df": float(np.mean(sigma["df"])),
        "unequal": mean(told["is_unequal"]),
    }
    for name, is_real in (("null", False), ("real", True)):
        of = {key: column[effect["is_real"] == is_real] for key, column in effect.items()}
        answer |= {f"{name}_{key}": value for key, value in of_stacked(of, truth.effect * is_real).items()}
    return answer | of_discoveries(effect, num, truth.real)


def of_stacked(effect: dict[str, NDArray], true: float) -> dict[str, float | None]:
    """What was told of stacked levers that are worth `true`."""
    of = {name: column[effect["is_stacked"]] for name, column in effect.items()}
    reach = stats.t.ppf(0.975, of["df"]) * of["seed_noise"]
    return {
        "stacked": mean(effect["is_stacked"]),
        "effect": mean(of["effect"]),
        "raw": mean(of["raw_effect"]),
        "panel": mean(of["panel_mean"] - CONTROL_MEAN),
        "interval": mean(np.abs(of["raw_effect"] - true) <= reach),
    }


def of_discoveries(effect: dict[str, NDArray], num: int, real: int) -> dict[str, float | None]:
    """Levers with a q_value below 0.1: in how many campaigns, how many of them null, how many of the real ones."""
    low = effect["q_value"] < 0.1
    campaigns, index = np.unique(effect["campaign"], return_inverse=True)
    of_all = np.bincount(index, low, len(campaigns))
    false = np.bincount(index, low & ~effect["is_real"], len(campaigns))
    return {
        "q_any": float((of_all > 0).sum() / num),
        "q_false": float((false / np.maximum(of_all, 1)).sum() / num),
        "q_power": float((of_all - false).sum() / (real * num)) if real else None,
    }


def of_correlation(levers: int, seeds: int, rho: float, num: int) -> dict[str, float | None]:
    """What rho is found to be from levers that all run at the same `seeds` of the panel."""
    rule = preset_rule("panel", 8)
    truth = Truth(levers, 0, 0.0, 0.014, rho)
    with scratch_ledger(rule) as ledger:
        fill(ledger, arrow(runs_of(truth, num, rule.panel_seeds, rule.panel_seeds[:seeds], 0)))
        told = ask(ledger, "select rho, is_usable from seed_correlation")
    low, high = np.quantile(told["rho"], [0.05, 0.95])
    return {"rho": mean(told["rho"]), "low": float(low), "high": float(high), "usable": mean(told["is_usable"])}


def of_luck(controls: int, num: int) -> dict[str, float | None]:
    """In how many panels a control is told lucky, or unlucky, where a lever ran at each seed."""
    rule = preset_rule("panel", controls)
    with scratch_ledger(rule) as ledger:
        fill(ledger, arrow(runs_of(Truth(1, 0, 0.0, 0.014, 0.0), num, rule.panel_seeds, rule.panel_seeds, 0)))
        told = ask(
            ledger, "select bool_or(is_lucky) lucky, bool_or(is_unlucky) unlucky from control_luck group by base_id"
        )
    either = mean(told["lucky"] | told["unlucky"])
    return {"lucky": mean(told["lucky"]), "unlucky": mean(told["unlucky"]), "either": either}


def of_drives(drives: int, seeds: int, noise: float, num: int) -> dict[str, float | None]:
    """What evaluation_noise is told to be of levers whose effect other validation drives would change by `noise`.

    Each run has an error of its own on each drive, whose mean over the drives is a quarter of sigma's variance.
    """
    rule, sigma = preset_rule("fresh", 8), 0.014
    stream = numpy_stream(drives, "drives", seeds)
    runs = runs_of(Truth(1, 0, 0.0, sigma, 0.0), num, rule.panel_seeds, rule.judged_seeds[:seeds], 0)
    own = sigma / 2 * np.sqrt(drives) * stream.standard_normal((len(runs["value"]), drives))
    worth = noise * np.sqrt(drives) * stream.standard_normal((num, drives))
    by_drive = runs["value"][:, None] + own - (runs["lever"] != "control")[:, None] * worth[runs["campaign"]]
    rows = {
        "campaign": np.repeat(runs["campaign"], drives), "lever": np.repeat(runs["lever"], drives),
        "seed": np.repeat(runs["seed"], drives), "drive": np.tile([f"drive-{i}" for i in range(drives)], len(own)),
        "value": by_drive.ravel(),
    }  # fmt: skip
    with scratch_ledger(rule) as ledger:
        fill(ledger, arrow(runs | {"value": by_drive.mean(1)}))
        ledger.register("by_drive", arrow(rows))
        ledger.execute(FILL_DRIVES)
        told = ask(ledger, "select evaluation_noise, seed_noise from effects")
    low, middle, high = np.quantile(told["evaluation_noise"], [0.05, 0.5, 0.95])
    return {
        "noise": float(np.sqrt(np.mean(told["evaluation_noise"] ** 2))), "mean": mean(told["evaluation_noise"]),
        "low": float(low), "median": float(middle), "high": float(high), "zero": mean(told["evaluation_noise"] == 0),
        "seed_noise": mean(told["seed_noise"]),
    }  # fmt: skip


def runs_of(truth: Truth, num: int, panel: Sequence[int], judged: Sequence[int], first: int) -> dict[str, NDArray]:
    """Every run that `num` campaigns could ask for: campaign, lever, seed, value, its place among the judged seeds."""
    stream = numpy_stream(first, "campaigns", repr(truth))
    seeds = np.array(sorted({*panel, *judged}))
    common = stream.standard_normal((num, len(seeds)))
    names = [f"real-{i}" if i < truth.real else f"null-{i}" for i in range(truth.levers)]
    parts = []
    for name in ["control", *names]:
        own = np.array(panel if name == "control" else judged)
        shared = common[:, np.searchsorted(seeds, own)]
        noise = np.sqrt(truth.rho) * shared + np.sqrt(1 - truth.rho) * stream.standard_normal(shared.shape)
        spread = 0.0 if name == "control" else truth.spread
        sigma = truth.sigma * np.exp(spread * stream.standard_normal((num, 1)))
        value = CONTROL_MEAN - truth.effect * name.startswith("real") + sigma * noise
        places = np.tile(np.arange(1, len(own) + 1), num)
        campaign = np.repeat(np.arange(num), len(own))
        parts.append((campaign, np.full(value.size, name, object), np.tile(own, num), value.ravel(), places))
    columns = ("campaign", "lever", "seed", "value", "judged_position")
    return dict(zip(columns, map(np.concatenate, zip(*parts, strict=True)), strict=True))


def run_what_is_owed(ledger: duckdb.DuckDBPyConnection, runs: dict[str, NDArray]) -> None:
    """Fill the ledger with the controls, and of each lever the runs up to the stage that it reaches."""
    fill(ledger, arrow(runs))
    reached = "select split_part(base_id, '-', 2)::bigint as campaign, lever, last_seed from decisions"
    ledger.register("reached", ledger.execute(reached).to_arrow_table())
    ledger.register("arrived", arrow(runs))
    kept = ledger.execute(KEEP).to_arrow_table()
    ledger.unregister("reached")
    fill(ledger, kept)


def arrow(columns: dict[str, NDArray]) -> pyarrow.Table:
    return pyarrow.table({name: pyarrow.array(column) for name, column in columns.items()})


def ask(ledger: duckdb.DuckDBPyConnection, question: str) -> dict[str, NDArray]:
    columns = ledger.execute(question).fetchnumpy()
    return {
        name: np.ma.filled(column, np.nan if column.dtype.kind == "f" else None) for name, column in columns.items()
    }


def joined(parts: list[dict[str, NDArray]]) -> dict[str, NDArray]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def mean(values: NDArray) -> float | None:
    return float(np.mean(values)) if len(values) else None


def print_table(name: str, rows: list[dict[str, Any]]) -> None:
    print(f"\n{name}")
    print(" ".join(f"{column:>13}" for column in rows[0]))
    for row in rows:
        cells = [
            "" if value is None else f"{value:.4f}" if isinstance(value, float) else value for value in row.values()
        ]
        print(" ".join(f"{cell:>13}" for cell in cells))


if __name__ == "__main__":
    main()
