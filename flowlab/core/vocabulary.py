"""One vocabulary: metrics and which way they are better, slices, readouts, states of a run, default channels.

What is written here is what experiments.toml may name, what evaluation writes, and what the ledger's views look for (a
test holds the words in SQL against these).
"""

from typing import Literal, NamedTuple

Better = Literal["lower", "higher"]

CHANNELS = ("gas", "brake", "steering")
"""The default names of the action channels, in their stored order. All but `drives/` finds a channel by its name."""

DEFAULT_CHANNEL = "steering"
"""The channel that a metric is of where none is named, and the one that the default slices look at."""

CHANNEL_RANGES = {"gas": (0.0, 1.0), "brake": (0.0, 1.0), "steering": (-1.0, 1.0)}
"""Raw values of the default channels; of others nothing is known."""

MERGED, MERGED_FROM = "longitudinal", ("gas", "brake")
"""The model channel that stands for the first of two raw channels minus the second."""

PEDALS = ("gas", "brake")
"""The channels that one chunk should not hold both of at once, where [selection] names no others."""

VARIANTS = ("normal", "no-history")
WAYPOINT_TOKENS, IMAGE_TOKENS = "waypoints", "image"
"""Token groups that a decoder's settings may ask for by name."""


class Metric(NamedTuple):
    """What a final metric is taken over, and which way it is better."""

    better: Better
    over_all_channels: bool  # whether there is also a row of channel ""
    slices: Literal["all", "frames", "overall"]  # frame slices and slot slices, frame slices alone, or `overall`


METRICS = {
    "l1": Metric("lower", True, "all"),
    "chunk_mean_l1": Metric("lower", True, "frames"),
    "maneuver_l1": Metric("lower", False, "overall"),
    "maneuver_slot_l1": Metric("lower", False, "overall"),
    "chunk_mean_correlation": Metric("higher", False, "frames"),
}
"""The metrics that a rule may name."""

ERROR_METRICS = tuple(name for name, metric in METRICS.items() if metric.better == "lower")

RANKER_METRICS = ("ranker_hit_rate", "ranker_pick_rank", "ranker_mode_agreement")
"""How good the choice of a learned ranker is: how often its first draw is the best, the median of that draw's rank by
the truth, and how often it prefers the nearer of two modes. No rule may name them."""

OVERALL = "overall"
"""The slice of every frame."""

DEFAULT_SLICES: dict[str, dict[str, str | float]] = {
    "flat_frame": {"channel": DEFAULT_CHANNEL, "size_below": 0.05, "slots": "all"},
    "spike_frame": {"channel": DEFAULT_CHANNEL, "size_above": 0.5, "slots": "any"},
    "flat_slot": {"channel": DEFAULT_CHANNEL, "size_below": 0.05, "slots": "each"},
    "spike_slot": {"channel": DEFAULT_CHANNEL, "size_above": 0.5, "slots": "each"},
}
"""The tables of [slices] where experiments.toml has none and there is a channel of that name."""

TAKEN_SLICES = (OVERALL, "time", "slot", "train", "drive", "lag")
"""Names that a slice of [slices] may not have: they stand for other places that a metric is taken over."""

CHUNK_READOUTS = ("single", "meank", "mediank")
"""What makes one chunk of K draws, which every metric can be taken of."""

MODE_READOUTS = ("mode", "mode-medoid", "mode-waypoint")
"""What makes one chunk by the modes of [selection]: they are there where its channel is."""

BOUNDS = ("oracle-mode", "best-draw")
"""Readouts that choose by the truth, so that no policy can be read out so; those of voting are vote-bound-*."""

VOTE_BOUND, PLUGIN_BOUND = "vote-bound", "-bound"


def is_bound(readout: str) -> bool:
    """Whether rows of that readout are of one that chooses by the truth; a plug-in's say so at their name's end."""
    return readout in BOUNDS or readout.startswith(f"{VOTE_BOUND}-") or readout.endswith(PLUGIN_BOUND)


SINGLE_MEAN = "single-mean"
"""The mean over the K draws of each one's own error, which the published code calls single. No chunk has that error."""

READOUTS = (*CHUNK_READOUTS, SINGLE_MEAN, *MODE_READOUTS)
"""The readouts that a rule may name: neither bounds, nor meank-1 ..., which are meank of another evaluation, nor votes,
whose names hold a setting."""

BASELINES = ("repeat-last", "train-median")
"""Readouts that need no policy."""

DIAGNOSES: dict[str, tuple[str, ...]] = {
    "fan": ("hit@0.05", "hit@0.1", "hit@0.2"),
    "horizon": ("skill", "lag_l1", "best_lag"),
    "field": ("straightness", "velocity_size", "implied_l1"),
    "integrators": ("solver_distance", "solver_l1", "enough_evaluations"),
    "history": ("history_l1", "history_shift"),
    "rollout": ("rollout_l1", "num_substitutions", "substitution_l1", "num_restarts"),
    "route": ("route_correlation", "route_turn_fraction"),
    "rank": ("effective_rank",),
    "attribution": ("attribution", "attribution_sd", "attribution_l1"),
}
"""What `flowlab diagnose NAME` asks of a finished run, and the metrics that it adds to it. No rule may name them."""

EXPORT_METRICS = ("onnx_difference", "onnx_latency_ms", "onnx_megabytes")
"""What `flowlab export --onnx` adds to a run: how far the graph's actions lie from PyTorch's at most, how long one
frame takes it (the readout says for how many draws), how large it is. No rule may name them."""

FINAL_STEP = -1
"""The step of what a run ended with."""

RUN_STATES = ("registered", "running", "interrupted", "finished", "crashed")
TELLING_EVENTS = ("registered", "started", "interrupted", "finished", "crashed")
"""Events that tell a run's state; `started` makes it `running`."""
SCORED_FROM = "scored-from"
"""The tag of a scoring that names the run whose policy it is: a run's numbers under another evaluation, untrained."""

PURPOSE = "purpose"
"""The tag of a run that no rule may look at, since it was trained for something else: one of PURPOSES."""

EXPLORATORY, FULL_PATH = PURPOSES = ("exploratory", "full-path")

CONTROL = "control"
"""The name of the reference recipe's runs."""

OUTCOMES = ("baseline", "control", "negative", "null", "superseded", "legacy", "crashed-early")
"""What came of a lever or a run; view outcomes says it of levers where nobody has."""

TAXONOMIES: dict[str, tuple[str, ...]] = {
    "scale": ("overfit", "pilot", "corpus"),
    "head": ("flow", "regression"),
    "levers": (),
    "outcome": OUTCOMES,
}
"""What a tag may be of, and its values: of `head` also a study's own objectives, of `levers` its levers and their
tags."""

BIT_FACTS = ("gpu", "cpu", "torch", "numpy", "flowlab")
"""What of a run's environment changes its bits, beside the kind of device: a pair in which one differs is unlike."""

UNTOLD = "unknown"
"""A fact of an environment that could not be found out; it is not different from another."""
