"""A new study: experiments.toml written for a source, commented so that its format can be learnt from it."""

import os
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from flowlab.core.errors import MissingError, StudyError, unknown_name
from flowlab.core.files import write_atomic
from flowlab.study.document import FILE_NAME, parse_document
from flowlab.study.drive_folders import drives_below
from flowlab.study.study import build_study

UDACITY_LOG = "driving_log.csv"
VAL_SHARE = 4  # one drive in so many is for validation


LDS_OFF = """\
[levers.lds-off]
set = { "objective.lds.alpha" = 0.0 }
hypothesis = "weighing rare maneuvers costs more on the road between than it earns in turns"
tags = ["loss", "lds"]
"""
PUBLISHED = """\
[levers.published]
set = { "objective.lds.alpha" = 0.5, "objective.delta_weight" = 10.0, "decoder.init" = "torch" }
hypothesis = "what the published recipe does suits these recordings too"
tags = ["loss", "published"]
"""
KEYBOARD = """\
# Driven by keyboard, a wheel is nearly always straight and a pedal all the way down or up. So the median of the draws
# has the least absolute error, not their mean, and maneuver weights make a policy draw too often what is rare. Three
# keys below are not as published for that reason, and the lever "published" puts them back (docs/decisions/0034).
"""


@dataclass(frozen=True)
class Sizes:
    """The numbers of a first study: about 10,000 windows, and a run of a few minutes on a CPU."""

    image_height: int = 48
    image_width: int = 48
    encoder_width: int = 128
    image_width_tokens: int = 64
    image_layers: int = 2
    image_steps: int = 600
    window_steps: int = 600
    decoder_width: int = 64
    decoder_layers: int = 4
    batch: int = 256
    steps: int = 1000
    lr: float = 1e-3
    warmup_steps: int = 50
    draws: int = 16
    solver_steps: int = 8
    readout: str = "meank"
    delta_weight: float = 10.0
    lds_alpha: float = 0.5
    init: str = ""  # of the decoder; the published one is not mentioned
    why: str = ""  # what stands above the control
    lds_lever: str = LDS_OFF


SIZES = {
    "carracing": Sizes(),
    "udacity": Sizes(
        image_height=32,  # its images are 160 x 320
        image_width=64,
        steps=2000,
        draws=32,
        solver_steps=4,
        readout="mediank",
        delta_weight=1.0,
        lds_alpha=0.0,
        init='init = "xavier"  # or "torch", as published\n',
        why=KEYBOARD,
        lds_lever=PUBLISHED,
    ),
    "synthetic": Sizes(image_height=16, image_width=16, image_steps=100, window_steps=100, steps=300),
}


def write_study(folder: Path, source: str, root: str | None, name: str | None) -> Path:
    """The path of a new experiments.toml in `folder`, which is made if need be; the study in it is checked first.

    `root` is where recordings lie, relative to the current folder as any path on a command line (udacity only). `name`
    is the study's, by default its folder's. Raises UnknownNameError for an unknown source, StudyError if there is a
    study already or an argument does not fit, MissingError if `root` holds no drives.
    """
    path = folder / FILE_NAME
    if os.path.lexists(path):
        raise StudyError(f"{folder} holds an {FILE_NAME} already. Name another folder, or move that file away.")
    text = study_text(folder, source, root, name)
    build_study(folder, parse_document(text))
    try:
        write_atomic(path, text.encode())
    except OSError as error:
        raise StudyError(f"{path} cannot be written: {error.strerror}.") from None
    return path


def study_text(folder: Path, source: str, root: str | None, name: str | None) -> str:
    """The text of an experiments.toml to stand in `folder`. Raises as `write_study` does, and writes nothing."""
    if source not in SIZES:
        raise unknown_name("source", source, SIZES)
    if source != "udacity" and root is not None:
        raise StudyError(f"source {source!r} makes its own drives and reads no recordings. Leave --root out.")
    sizes = SIZES[source]
    values = _body_values(sizes)
    head = HEAD.format(name=quoted(name or kebab(folder.resolve().name)), **values)
    drives = _udacity_drives(folder, root) if source == "udacity" else DRIVES[source]
    return head + drives + BODY.format(**values)


def find_udacity_drives(root: Path) -> list[str]:
    """The drives below `root`, as the source `udacity` names them, sorted. Raises MissingError if there is none."""
    if not root.is_dir():
        raise MissingError(f"no folder {root}. Give --root the folder that the recordings lie in.")
    drives = drives_below(root, UDACITY_LOG)
    if not drives:
        raise MissingError(f"{root} holds no drives: no {UDACITY_LOG} anywhere below it. Give --root another folder.")
    return sorted(drives)


def choose_val(drives: list[str]) -> list[str]:
    """About a quarter of the drives, sorted, at least one, and never all of two or more.

    The last drives of tracks (or drivers: the folder above) that have several come first, so that validation meets
    known tracks on new drives; a track's only drive follows if there are too few. One drive cannot be split: no list.
    """
    if len(drives) < 2:
        return []
    tracks: dict[str, list[str]] = defaultdict(list)
    for drive in sorted(drives):
        tracks[str(PurePosixPath(drive).parent)].append(drive)
    ranked = []
    for track in tracks.values():
        for index, drive in enumerate(track):
            before, after = index, len(track) - 1 - index
            ranked.append((before == 0, after, drive))  # a track's first drive is the last to be taken from it
    return sorted(drive for _, _, drive in sorted(ranked)[: max(1, round(len(drives) / VAL_SHARE))])


def kebab(text: str) -> str:
    """`text` as a name of small letters and digits joined by hyphens; "study" if nothing of it is left."""
    return "-".join(re.findall(r"[a-z0-9]+", text.lower()))[:64].strip("-") or "study"


def quoted(text: str) -> str:
    """`text` as a TOML string. Raises StudyError for a file name that is not text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise StudyError(f"the name {os.fsencode(text)!r} is not UTF-8 text. Rename it.") from None
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + re.sub(r"[\x00-\x1f\x7f]", lambda found: f"\\u{ord(found[0]):04x}", escaped) + '"'


def _udacity_drives(folder: Path, root: str | None) -> str:
    if root is None:
        raise StudyError("source 'udacity' reads recordings. Say where they lie: --root PATH.")
    there = Path(os.path.expanduser(root))  # noqa: PTH111 -- Path.expanduser raises for a user that does not exist
    drives = find_udacity_drives(there)
    val = choose_val(drives)
    listed = "".join(f"#   {quoted(drive)}\n" for drive in drives)
    if val:
        split = "val = [\n" + "".join(f"    {quoted(drive)},\n" for drive in val) + "]\n"
    else:
        split = '# One drive cannot be split: it trains and validates. Record more of them.\nscale = "overfit"\n'
    return UDACITY.format(root=quoted(_from_study(folder, there)), count=len(drives), listed=listed, split=split)


def _from_study(folder: Path, root: Path) -> str:
    """`root` as the study in `folder` finds it: an absolute path as it is, a relative one from the study's folder."""
    if root.is_absolute():
        return str(root)
    try:
        return Path(os.path.relpath(root.resolve(), folder.resolve())).as_posix()
    except ValueError:  # another drive of a Windows machine
        return str(root.resolve())


def _body_values(sizes: Sizes) -> dict[str, object]:
    values = {name: getattr(sizes, name) for name in sizes.__dataclass_fields__}
    return values | {"half_lr": sizes.lr / 2, "of_draws": {"meank": "mean", "mediank": "median"}[sizes.readout]}


HEAD = """\
# A flowlab study: this file says everything about it, and what it makes (caches, runs, the ledger) lands beside it.
#
#   flowlab cache build                                   drives -> frozen encoder -> condition tokens, once
#   flowlab run --lever delta-off --seeds 1001,1002       train and score a lever and the control that it needs
#   flowlab verdict                                       what the rule says

[study]
name = {name}
rule = "panel"  # which of [rules.*] judges
# The number that decides: steering error of the {of_draws} of all draws, on the frames that hold a sharp turn.
primary = {{ metric = "l1", channel = "steering", slice = "spike_frame", readout = "{readout}" }}

"""

DRIVES = {
    "carracing": """\
[drives]  # recorded from Gymnasium's CarRacing-v3 by a scripted driver, one style per drive; kept in caches/drives
source = "carracing"
count = 16
seconds = 65.0
hz = 10.0
seed = 0

[split]  # whole drives on one side each, never frames
num_val = 4  # the last drives; or name them: val = ["..."]

""",
    "synthetic": """\
[drives]  # an oracle: two steering modes of known mass, gap and mean
source = "synthetic"
count = 8
frames = 1250
seed = 0

[split]  # whole drives on one side each, never frames
num_val = 2  # the last drives; or name them: val = ["..."]

""",
}

UDACITY = """\
[drives]  # folders of the Udacity simulator's recorder; a relative root starts at this file's folder
source = "udacity"
root = {root}

# {count} found when this file was written:
{listed}
[split]  # whole drives on one side each, never frames; the drives that are not named here train
{split}
"""

BODY = """\
[windows]
history = 6  # frames up to now that the encoder sees
horizon = 6  # slots of the chunk that the policy predicts
max_gap_s = 0.5  # no window crosses a longer step

[encoder]  # pretrained on the train drives, then frozen; every run shares its tokens
width = {encoder_width}
image_height = {image_height}
image_width = {image_width}
image_width_tokens = {image_width_tokens}
image_layers = {image_layers}
image_steps = {image_steps}
window_steps = {window_steps}

[cache]
variants = ["normal", "no-history"]  # no-history: the past actions are zeroed before the encoder

# Slices: which frames a metric is taken over. Without this table there are flat_frame (every |steering| < 0.05) and
# spike_frame (some |steering| > 0.5), with it those that it defines, and always overall.
#
#   [slices.sharp_right]
#   channel = "steering"
#   above = 0.5  # of the raw action; or below, or size_above and size_below of its size
#   slots = "any"  # some slot of the frame; or all

# Modes: the draws of a frame are two if there is a gap between them. These are the values without the table.
#
#   [selection]
#   channel = "steering"  # whose mean over a chunk tells the modes apart
#   gap = 0.15  # they are two if the largest gap between the sorted draws is wider than this,
#   minority = 0.125  # and the smaller side holds this share of the draws

# The control: the recipe that every lever changes. A key left out has the published value.

{why}
[control]
version = 2  # of what is meant by keys that are left out

[control.objective]
delta_weight = {delta_weight}  # weight of the loss on differences along the chunk
lds = {{ alpha = {lds_alpha} }}  # how much more a rare maneuver weighs; 0 is off

[control.decoder]
width = {decoder_width}
layers = {decoder_layers}
{init}
[control.train]
batch = {batch}
steps = {steps}
lr = {lr}
warmup_steps = {warmup_steps}

[control.evaluation]
draws = {draws}  # chunks drawn per validation frame
solver_steps = {solver_steps}
precision = "float16"  # of the draws as they are kept, and scored; without it float32, twice the size

# Levers: one named change to the control each, with the reason to try it.

[levers.delta-off]
set = {{ "objective.delta_weight" = 0.0 }}
hypothesis = "the loss on differences smooths sharp turns away"
tags = ["loss", "delta-loss"]

{lds_lever}
[levers.lr-half]
set = {{ "train.lr" = {half_lr} }}
hypothesis = "the control's learning rate is too high"
tags = ["calibration", "optimiser"]

[levers.depth-2]
set = {{ "decoder.layers" = 2 }}
hypothesis = "half the depth is enough for chunks this short"
tags = ["architecture", "size"]

# The rule: a paired gain at the first seed earns the second; the mean of both must then beat the panel of control runs.

[rules.panel]
preset = "panel"
panel_seeds = [1001, 1002, 1003, 1004]
judged_seeds = [1001, 1002]
# What a lever must not spoil: its mean may exceed the panel's by the margin at most.
guardrails = [
    {{ metric = "l1", channel = "steering", slice = "flat_frame", readout = "{readout}", margin = 0.004 }},
    {{ metric = "l1", channel = "steering", slice = "overall", readout = "{readout}", margin = 0.004 }},
    {{ metric = "l1", channel = "gas", slice = "overall", readout = "{readout}", margin = 0.004 }},
    {{ metric = "l1", channel = "brake", slice = "overall", readout = "{readout}", margin = 0.004 }},
]
"""
