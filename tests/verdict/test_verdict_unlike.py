"""Pairs that were trained in two environments are marked, and judged all the same."""

from pathlib import Path

from tests.verdict.campaign import Campaign, panel_rule

HERE = {"cpu": "Xeon", "torch": "2.13.0", "numpy": "2.4.1", "flowlab": "0.1.0", "python": "3.11.2", "duckdb": "1.5.6"}
UNLIKE: dict[str, tuple[str, dict[str, str], str | None]] = {
    "here": ("cpu", {}, None),
    "newer-python": ("cpu", {"python": "3.14.0", "duckdb": "2.0.1"}, None),  # which change no bits
    "untold": ("cpu", {"cpu": "unknown"}, None),
    "processor": ("cpu", {"cpu": "EPYC"}, "cpu EPYC, its control Xeon"),
    "versions": (
        "cpu", {"torch": "2.15.0", "numpy": "2.5.0"},
        "numpy 2.5.0, its control 2.4.1; torch 2.15.0, its control 2.13.0",
    ),
    "device": ("cuda:1", {"gpu": "H200"}, "device cuda, its control cpu"),
}  # fmt: skip
"""Lever -> device, what else is different where it was trained, what its pair at 1002 tells."""


def test_a_pair_tells_what_differs_and_counts(ledger: Path, runs: Path) -> None:
    """Each lever is 0.03 better at 1001, and 0.025 better than the panel."""
    campaign = Campaign(ledger, runs, panel_rule())
    for seed, value in {1001: 0.40, 1002: 0.38}.items():
        campaign.run("control", seed, value, environment=HERE)
    for lever, (device, changed, _) in UNLIKE.items():
        campaign.run(lever, 1001, 0.37, environment=HERE)
        campaign.run(lever, 1002, 0.36, device=device, environment=HERE | changed)
    verdicts = campaign.verdicts()
    marked = {(row["lever"], row["seed"]): row["unlike"] for row in campaign.ask("pairs")}
    for lever, (_, _, unlike) in UNLIKE.items():
        verdict = verdicts[lever]
        assert verdict.decision == "stack"
        assert verdict.unlike_seeds == ([1002] if unlike else [])
        assert (marked[lever, 1001], marked[lever, 1002]) == (None, unlike)
        told = f"unlike pairs, whose bits differ for that alone: 1002 ({unlike})"
        assert (told in verdict.reason) == bool(unlike)


def test_an_unknown_processor_is_not_different_from_any(ledger: Path, runs: Path) -> None:
    campaign = Campaign(ledger, runs, panel_rule())
    for lever, value, cpu in (("control", 0.4, "unknown"), ("wide", 0.3, "Xeon"), ("other", 0.3, "unknown")):
        campaign.run(lever, 1001, value, environment={"cpu": cpu})
    campaign.verdicts()
    assert campaign.ask("unlike_runs") == []
