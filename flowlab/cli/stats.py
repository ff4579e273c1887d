"""`flowlab stats`: what was fitted on the train split, in numbers and as a picture."""

import math
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flowlab.cli.options import JsonOption, StudyOption, open_study
from flowlab.cli.screen import out, print_json, say, table
from flowlab.core.errors import StudyError
from flowlab.core.files import write_atomic
from flowlab.core.vocabulary import CONTROL, MERGED, MERGED_FROM

if TYPE_CHECKING:
    from flowlab.evaluate.stats_facts import Atom, Bin, Histogram, ModelChannel, RawChannel
    from flowlab.lab.stats import ShownStats

BLOCKS = " ▁▂▃▄▅▆▇█"
PLAIN_BLOCKS = " ..::+##@"
ROWS = 4  # of a histogram of slots
MOST_COEFFICIENTS = 8


def stats(
    lever: Annotated[str, typer.Option(help="Those of this lever's recipe.")] = CONTROL,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE.svg", help="Where to draw; without it, beside the stats.")
    ] = None,
    study: StudyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fit and store what runs need to know of the train split: knots, densities, thresholds; show and draw it."""
    from flowlab.cli.judge import ingest_all
    from flowlab.evaluate.stats_picture import draw_stats
    from flowlab.lab.stats import show_stats

    if plot is not None and plot.suffix.lower() != ".svg":
        raise StudyError(f"--plot got {str(plot)!r}, expected the name of an SVG file. Example: --plot stats.svg")
    if plot is not None and not plot.parent.is_dir():
        raise StudyError(
            f"--plot got {str(plot)!r}, and there is no folder {plot.parent}. Make it, or name another one."
        )
    found = open_study(study)
    ingest_all(found)
    shown = show_stats(found, lever)
    picture = plot or shown.path.with_suffix(".svg")
    who = "the control" if lever == CONTROL else f"lever {lever}"
    title = f"stats of {who} of study {found.name}"
    source = f"fitted on {_windows(shown)} of cache {shown.fitted_on.cache_id}; digest {shown.stats.digest()}"
    told = (f"{_action_space(shown)}; weights: {_law(shown)}", source)
    write_atomic(picture, draw_stats(title, told, shown.channels).encode())
    if as_json:
        print_json(shown.to_json() | {"picture": str(picture)})
        return
    _print_stats(shown, title, picture, found.root)


def _print_stats(shown: "ShownStats", title: str, picture: Path, root: Path) -> None:
    """All of it within 80 columns."""
    screen, stats_digest = out(), shown.stats.digest()
    named = "these stats" if shown.is_named else "this action space and the control's stats"
    is_shared = shown.is_controls and shown.lever != CONTROL
    facts = {
        "stored in": _from(root, shown.path),
        "digest": f"{stats_digest}, the control's too" if is_shared else stats_digest,
        "recipe": f"{shown.recipe_digest}, which names {named}",
        "fitted on": f"{_windows(shown)} of cache {shown.fitted_on.cache_id}",
        "action space": _action_space(shown),
        "weights": _law(shown),
        "picture": _from(root, picture),
    }
    if shown.trained_from.cache_id != shown.fitted_on.cache_id:
        num_trained = shown.trained_from.num_windows("train")
        facts["weighed"] = f"{num_trained:,} train windows of its own cache {shown.trained_from.cache_id}"
    screen.print(table(["stats", ""], list(facts.items()), title))
    columns = ["raw channel", "low", "high", "at rest", "threshold", "maneuvers"]
    screen.print(table(columns, [_raw_row(channel, shown) for channel in shown.raw_channels]))
    moved = [one.name for one in shown.raw_channels if not math.isclose(one.threshold, one.fitted_threshold)]
    if moved:
        say(f"note: of {', '.join(moved)} the threshold on record is in force, not the one fitted here (see --json)")
    screen.print("Pictures: heights are square roots of the share of slots.\n")
    blocks = BLOCKS if screen.encoding.startswith("utf") else PLAIN_BLOCKS
    for channel in shown.channels:
        for line in [*_picture(channel, blocks), *_told(channel, shown), ""]:
            screen.print(line, markup=False, soft_wrap=True)


def _from(root: Path, path: Path) -> str:
    """A path from the study's folder on, or as it is where it lies elsewhere."""
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def _windows(shown: "ShownStats") -> str:
    return f"{shown.fitted_on.num_windows('train'):,} train windows"


def _action_space(shown: "ShownStats") -> str:
    """The settings of the action space that have a meaning for its transform, in a few words."""
    settings = shown.recipe.action_space
    merged = f"{MERGED} = {' - '.join(MERGED_FROM)}, " if settings.merge else ""
    more = {
        "gaussianize": f" with {settings.knots} knots, tails {settings.tails}",
        "gaussianize-dct": f" with {settings.knots} knots, tails {settings.tails}",
        "mu-law": f" with mu {settings.mu:g}",
    }
    return f"{merged}{settings.transform}{more.get(settings.transform, '')}, {shown.num_slots} slots"


def _law(shown: "ShownStats") -> str:
    lds = shown.recipe.objective.lds
    own = "".join(f", {name} {alpha:g}" for name, alpha in lds.channel_alpha.items())
    return f"alpha {lds.alpha:g}{own}, cap {lds.cap:g} on {lds.cap_on}, edges {lds.edges}"


def _raw_row(channel: "RawChannel", shown: "ShownStats") -> list[str | float]:
    share = channel.num_reaching / shown.fitted_on.num_windows("train")
    reaching = f"{channel.num_reaching:,} ({share:.1%})"
    return [channel.name, channel.low, channel.high, f"{channel.at_rest:.1%}", channel.threshold, reaching]


def _picture(channel: "ModelChannel", blocks: str) -> list[str]:
    """The channel before and after its transform, side by side; coefficients each in a line of its own."""
    before = _columns(channel.before, ROWS, blocks)
    if len(channel.after) == 1:
        after = _columns(channel.after[0], ROWS, blocks)
    else:
        after = [f"{_columns(one, 1, blocks)[0]} {k}" for k, one in enumerate(channel.after[:MOST_COEFFICIENTS])]
    lines = zip_longest(reversed(before), reversed(after), fillvalue=" " * len(before[0]))
    pictures = [f"  {left}    {right}" for left, right in lines][::-1]
    left, right = _scale(channel.before, len(before[0])), _scale(channel.after[0], len(before[0]))
    name = f"{channel.name}, physical"
    of = "" if len(channel.after) == 1 else ", each coefficient"
    more = len(channel.after) - MOST_COEFFICIENTS
    left_out = [f"  and {more} coefficients more, in the picture"] if more > 0 else []
    return [f"  {name:<{len(before[0])}}    model{of}", *pictures, f"  {left}    {right}", *left_out]


def _columns(histogram: "Histogram", num_rows: int, blocks: str) -> list[str]:
    """Two columns of the histogram as one character, in rows; heights are square roots, so that little is seen too."""
    shares = [a + b for a, b in zip(histogram.share[::2], histogram.share[1::2], strict=True)]
    full, most = len(blocks) - 1, max(shares)
    heights = [math.ceil(num_rows * full * math.sqrt(share / most)) for share in shares]
    return [
        "".join(blocks[min(max(height - row * full, 0), full)] for height in heights)
        for row in range(num_rows - 1, -1, -1)
    ]


def _scale(histogram: "Histogram", width: int) -> str:
    low, high = f"{histogram.low:.3g}", f"{histogram.high:.3g}"
    return low + high.rjust(width - len(low))


def _told(channel: "ModelChannel", shown: "ShownStats") -> list[str]:
    """What the picture does not say."""
    after = f"{channel.model_low:.3g} to {channel.model_high:.3g}"
    lines = [f"  range   {channel.low:.3g} to {channel.high:.3g} physical, {after} in model space"]
    if channel.num_distinct_knots is not None:
        lines.append(f"  knots   {channel.num_distinct_knots} distinct among {shown.recipe.action_space.knots}")
    lines += _atoms(channel.atoms)
    lines.append(f"  labels  up to {channel.largest_label:.4g}; densest {_bin(channel.densest)}")
    lines.append(f"          rarest {_bin(channel.rarest)}")
    light, heavy = channel.lightest, channel.heaviest
    lines.append(f"  weights {light.weight:.3f} at labels {_range(light)}, up to {heavy.weight:.3f} at {_range(heavy)}")
    return lines


def _atoms(atoms: "tuple[Atom, ...]") -> list[str]:
    """How many, and the largest with what maps back to it."""
    if not atoms:
        return ["  atoms   none"]
    largest = atoms[0]
    lines = [f"  atoms   {len(atoms)}; the largest, {largest.value:.4g}, is {largest.share:.1%} of the slots"]
    if largest.interval is not None:
        low, high = largest.interval
        lines.append(f"          model {f'{low:.3g}' if low == high else f'{low:.3g} to {high:.3g}'} maps back to it")
    return lines


def _bin(one: "Bin") -> str:
    chunks = "1 chunk" if one.num_chunks == 1 else f"{one.num_chunks:,} chunks"
    return f"{_range(one)}: {chunks}, density {one.density:.2g}"


def _range(one: "Bin") -> str:
    return f"{one.low:.3g} to {one.high:.3g}"
