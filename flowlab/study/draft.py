"""What a first study is made of: numbers, names and tables that somebody has chosen, before they are one text."""

from dataclasses import dataclass

from flowlab.core.vocabulary import CHANNELS, DEFAULT_CHANNEL


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


@dataclass(frozen=True)
class Guard:
    """What a lever must not spoil: the error of a channel on a slice, and by how much it may grow."""

    channel: str
    slice: str
    margin: float


CAR_MARGIN = 0.004
CAR_GUARDS = (
    Guard("steering", "flat_frame", CAR_MARGIN),
    Guard("steering", "overall", CAR_MARGIN),
    Guard("gas", "overall", CAR_MARGIN),
    Guard("brake", "overall", CAR_MARGIN),
)


@dataclass(frozen=True)
class Draft:
    """A first study without its name.

    `drives`, `split`, `slices` and `selection` are tables as they stand in the file, comments and all; the last two ""
    where flowlab's own are left to stand. `by_keys`: the recordings were driven by keyboard.
    """

    drives: str
    split: str
    sizes: Sizes = Sizes()
    channels: tuple[str, ...] = CHANNELS
    lead: str = DEFAULT_CHANNEL  # the channel of the primary metric
    slice: str = "spike_frame"  # and its slice,
    where: str = "the frames that hold a sharp turn"  # in words
    guards: tuple[Guard, ...] = CAR_GUARDS
    history: int = 6
    horizon: int = 6
    max_gap_s: float = 0.5
    hz: float | None = None  # of the recordings, where it is not about ten
    slices: str = ""
    selection: str = ""
    by_keys: bool = False
    in_seconds: bool = False  # whether [windows] could say it in seconds
    backbone: tuple[int, int] | None = None  # height and width for one from Hugging Face, as a lever to try

    @property
    def is_car(self) -> bool:
        """Whether the primary metric is of steering, for which flowlab's own bars and margins are made."""
        return self.lead == DEFAULT_CHANNEL

    @property
    def readout(self) -> str:
        """How draws are read out for the rule."""
        return "mediank" if self.by_keys else "meank"


SIMULATED = {
    "carracing": Draft(
        drives="""\
[drives]  # recorded from Gymnasium's CarRacing-v3 by a scripted driver, one style per drive; kept in caches/drives
source = "carracing"
count = 16
seconds = 65.0
hz = 10.0
seed = 0

""",
        split="""\
[split]  # whole drives on one side each, never frames
num_val = 4  # the last drives; or name them: val = ["..."]

""",
    ),
    "synthetic": Draft(
        drives="""\
[drives]  # an oracle: two steering modes of known mass, gap and mean
source = "synthetic"
count = 8
frames = 1250
seed = 0

""",
        split="""\
[split]  # whole drives on one side each, never frames
num_val = 2  # the last drives; or name them: val = ["..."]

""",
        sizes=Sizes(image_height=16, image_width=16, image_steps=100, window_steps=100, steps=300),
    ),
}
"""The first studies of sources that make their own drives: there is nothing to look at."""
