"""`flowlab ranker train` and `flowlab ranker evaluate`."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from pydantic import ValidationError

from flowlab.cli import judge
from flowlab.cli.options import Device, DeviceOption, JsonOption, StudyOption, open_study
from flowlab.cli.screen import Bars, out, print_json, say, table
from flowlab.core.errors import StudyError
from flowlab.study.problems import sentence
from flowlab.study.ranker import RankerSettings

if TYPE_CHECKING:
    from flowlab.lab.rankers import RankerMade
    from flowlab.lab.rankings import Ranking

Loss = Literal["listwise", "pointwise"]
RunsArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[RUN]...", help="Runs by their ids, or what only one id begins with.")
]
LeverOption = Annotated[str | None, typer.Option(help="All finished runs of this lever, or of control.")]
WidthOption = Annotated[int | None, typer.Option(help="Of its layers; 512 and 256 are published.")]
LossOption = Annotated[Loss | None, typer.Option(help="What is minimised.")]
TauOption = Annotated[float | None, typer.Option(help="Of the target softmax(-L1 / tau).")]
EpochsOption = Annotated[int | None, typer.Option(help="How often it goes through the train frames.")]
SpreadOption = Annotated[
    bool | None,
    typer.Option("--spread-weighted/--unweighted", help="Whether a frame counts by the spread of its draws' L1."),
]
ChannelOption = Annotated[
    str | None, typer.Option(help='Whose L1 it ranks by: a channel, or "all"; else that of the table `selection`.')
]
DrawsOption = Annotated[int | None, typer.Option(help="Draws of each train frame.")]
FramesOption = Annotated[int | None, typer.Option(help="Train frames at most.")]
BatchOption = Annotated[int | None, typer.Option(help="Train frames in one step.")]
LrOption = Annotated[float | None, typer.Option(help="Learning rate.")]
DecayOption = Annotated[float | None, typer.Option("--weight-decay", help="Of its matrices.")]


def train(
    runs: RunsArgument = None,
    lever: LeverOption = None,
    width: WidthOption = None,
    loss: LossOption = None,
    tau: TauOption = None,
    spread_weighted: SpreadOption = None,
    channel: ChannelOption = None,
    draws: DrawsOption = None,
    frames: FramesOption = None,
    epochs: EpochsOption = None,
    batch: BatchOption = None,
    lr: LrOption = None,
    weight_decay: DecayOption = None,
    study: StudyOption = None,
    device: DeviceOption = Device.auto,
    as_json: JsonOption = False,
) -> None:
    """Train a ranker of each run's draws, on the train split. Options stand in for keys of the table `ranker`."""
    found = open_study(study)
    settings = _changed(found.file.ranker, locals())
    run_ids = _chosen("train", found, runs, lever)

    from flowlab.lab.environment import choose_device
    from flowlab.lab.rankers import train_rankers
    from flowlab.ledger.ingest import require_writable

    require_writable(found.ledger, found.runs)
    bars = Bars()
    made = train_rankers(found, run_ids, settings, choose_device(device.value), bars)
    judge.ingest_and_copy(found, bars)
    if as_json:
        print_json([asdict(one) for one in made])
    else:
        _print_made(made)


def evaluate(
    runs: RunsArgument = None,
    lever: LeverOption = None,
    temperature: Annotated[float | None, typer.Option(help="Scores are divided by it before their softmax.")] = None,
    top: Annotated[int | None, typer.Option(help="How many of the best draws are averaged.")] = None,
    width: WidthOption = None,
    loss: LossOption = None,
    tau: TauOption = None,
    spread_weighted: SpreadOption = None,
    channel: ChannelOption = None,
    draws: DrawsOption = None,
    frames: FramesOption = None,
    epochs: EpochsOption = None,
    batch: BatchOption = None,
    lr: LrOption = None,
    weight_decay: DecayOption = None,
    study: StudyOption = None,
    device: DeviceOption = Device.auto,
    as_json: JsonOption = False,
) -> None:
    """What each run's ranker chooses among its draws, beside no choice and the best one. Name it by its settings."""
    found = open_study(study)
    settings = _changed(found.file.ranker, locals())
    run_ids = _chosen("evaluate", found, runs, lever)

    from flowlab.lab.environment import choose_device
    from flowlab.lab.rankings import evaluate_rankers

    bars = Bars()
    rankings = evaluate_rankers(found, run_ids, settings, choose_device(device.value), bars)
    judge.ingest_and_copy(found, bars)
    if as_json:
        print_json([asdict(one) for one in rankings])
        return
    for one in rankings:
        _print_ranking(one.run_id, [one])
    if len(rankings) > 1:
        _print_ranking(f"mean over {len(rankings)} runs", rankings)


def _changed(settings: RankerSettings, given: dict[str, Any]) -> RankerSettings:
    """The settings with those options of a command that are `given` and have a setting's name; None is not given.

    Raises StudyError in one sentence for what cannot be.
    """
    changes = {name: given[name] for name in RankerSettings.model_fields if given.get(name) is not None}
    tables = settings.model_dump() | changes
    try:
        return RankerSettings.model_validate(tables)
    except ValidationError as error:
        raise StudyError(f"ranker: {sentence(error, RankerSettings, tables)}") from None


def _chosen(command: str, study: Any, runs: Sequence[str] | None, lever: str | None) -> list[str]:
    """The ids of the runs that a command is about."""
    if not runs and lever is None:
        raise StudyError(f"name runs or a lever. Example: flowlab ranker {command} --lever control")
    from flowlab.lab.checkpoints import find_runs

    return find_runs(study, runs or [], lever)


def _print_made(made: "list[RankerMade]") -> None:
    there = [one.run_id for one in made if one.loss is None]
    if there:
        say(f"{', '.join(there)}: the ranker of these settings is there, for this very policy: nothing to train")
    rows = [
        [one.run_id, one.ranker, f"{one.num_frames:,} x {one.num_draws}", one.loss, f"{one.seconds:.1f}"]
        for one in made
        if one.loss is not None
    ]
    if rows:
        out().print(
            table(["run", "ranker", "frames x draws", "loss", "s"], rows, "rankers, as artifacts of their runs")
        )


def _print_ranking(title: str, rankings: "Sequence[Ranking]") -> None:
    """A table of the L1, and one of how good the choice is, each the mean over the runs that have the number."""
    first = rankings[0]
    slices = list(first.num_frames)
    what = f"L1 {first.channel or 'over all channels'}, {first.num_draws} draws a frame"
    rows = [
        [name, *(_mean([one.l1.get(name, {}).get(where) for one in rankings]) for where in slices)] for name in first.l1
    ]
    out().print(table(["readout", *slices], rows, f"{title}: {what}"))
    rows = [
        [name, *(_mean([one.choice.get(name, {}).get(where) for one in rankings]) for where in slices)]
        for name in first.choice
    ]
    out().print(table(["choice", *slices], rows))


def _mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None
