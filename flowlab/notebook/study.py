"""A study and its runs as objects to ask. Nothing here writes: no ledger, no lock, no cache, no compiled plug-in.

What the ledger has not read yet stays unread, and is warned of. docs/python.md shows all of it.
"""

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowlab.core.errors import LedgerError, MissingError
from flowlab.ledger.connection import open_ledger, read
from flowlab.ledger.unread import count_unread, journal_sizes
from flowlab.study.study import Study, find_study, load_study

if TYPE_CHECKING:
    import numpy as np
    import polars
    from numpy.typing import ArrayLike, NDArray
    from torch import Tensor

    from flowlab.evaluate.frames import ValidationFrames
    from flowlab.lab.checkpoints import Checkpoint
    from flowlab.lab.policies import KeptPolicy
    from flowlab.lab.predictions import Predictions
    from flowlab.notebook.draws import Draws


def open_study(path: str | Path | None = None) -> "OpenStudy":
    """The study whose experiments.toml lies in the folder `path`; without it, the nearest one from here upwards.

    Raises a FlowlabError in one sentence for a folder that is none.
    """
    study = load_study(Path(path).expanduser() if path is not None else find_study(Path.cwd()))
    if str(study.root) not in sys.path:
        sys.path.append(str(study.root))  # plug-ins may be modules that lie beside experiments.toml
    return OpenStudy(study)


class OpenStudy:
    """A study to be asked. `settings` is all that its experiments.toml says."""

    def __init__(self, settings: Study) -> None:
        self.settings = settings

    @property
    def name(self) -> str:
        """The study's name."""
        return self.settings.name

    @property
    def root(self) -> Path:
        """The study's folder."""
        return self.settings.root

    def __repr__(self) -> str:
        num_runs = len(journal_sizes(self.settings.runs)) - 1
        return f"study {self.name} in {self.root}: {num_runs} runs. Ask it: .runs(), .run(ID), .sql(QUESTION)"

    def runs(self) -> "polars.DataFrame":
        """Every run that the ledger knows, in the order of registration: who it is, its status and how far it is."""
        import polars

        from flowlab.lab.status import read_status

        self._require_ledger()
        return polars.DataFrame(read_status(self.settings), infer_schema_length=None)

    def run(self, name: str, step: int | None = None, device: str = "cpu") -> "OpenRun":
        """The run whose id begins with `name`, with its last policy or the one that it kept after `step` steps.

        What it computes it computes on `device`: "cpu", "cuda" or "auto". Raises UnknownNameError for a name that no
        run or several begin with, MissingError for a policy or cache that is not there, PolicyError or
        CacheMismatchError for one that is not what the run says.
        """
        from flowlab.lab.checkpoints import open_checkpoint
        from flowlab.lab.environment import choose_device
        from flowlab.lab.predictions import find_run

        with _nothing_compiled():
            run_id = find_run(self.settings, name)
            return OpenRun(self, open_checkpoint(self.settings, run_id, step, choose_device(device)))

    def sql(self, question: str, parameters: Sequence[Any] = ()) -> "polars.DataFrame":
        """The ledger's answer to one SELECT, with `?` for each of `parameters`; docs/views.md lists what there is.

        Raises LedgerError for anything but one reading statement, and for what DuckDB finds wrong with it.
        """
        self._require_ledger()
        return read(self.settings.ledger, question, parameters).frame()

    def _require_ledger(self) -> None:
        """Warns of what the ledger has not read. Raises MissingError or LedgerError for one that is not up to date."""
        from flowlab.ledger.migrate import is_current

        ledger, runs = self.settings.ledger, self.settings.runs
        num_unread = count_unread(ledger, runs)
        if not ledger.exists():
            raise MissingError(
                f"there is no ledger at {ledger} yet, and {num_unread:,} lines of journals are to be read into it. "
                f"Any command does that: flowlab status"
            )
        with open_ledger(ledger, read_only=True) as connection:
            if not is_current(connection, ledger):
                raise LedgerError(
                    f"{ledger} is of another flowlab, and nothing is written from here. Bring it up to date: "
                    f"flowlab status"
                )
        if num_unread:
            lines = f"{num_unread:,} lines of journals are" if num_unread > 1 else "1 line of journals is"
            warnings.warn(
                f"{lines} not in the ledger yet: the answer is of what it has. Read them in: flowlab status",
                stacklevel=3,
            )


class OpenRun:
    """A finished run: its policy, what it was scored on, what it draws, and its numbers."""

    def __init__(self, study: OpenStudy, checkpoint: "Checkpoint") -> None:
        self.study, self.checkpoint = study, checkpoint

    @property
    def run_id(self) -> str:
        """The run's whole id."""
        return self.checkpoint.run_id

    @property
    def record(self) -> dict[str, Any]:
        """What the run registered: lever, seed, recipe, digests, evaluation."""
        return self.checkpoint.record

    def __repr__(self) -> str:
        record, policy = self.record, self.checkpoint.policy
        return (
            f"run {self.run_id} of study {self.study.name}: lever {record['lever']}, seed {record['seed']}, "
            f"{policy.facts.recipe.objective.kind}, after {policy.step} steps. Ask it: .policy(), .frames(), .draws(), "
            f".predict(CONDITION), .predictions(READOUT), .metrics()"
        )

    def policy(self) -> "KeptPolicy":
        """Decoder and objective (torch modules with a run axis of one run), and what they see and predict."""
        return self.checkpoint.policy

    def frames(self, side: str = "val") -> "ValidationFrames":
        """The N validation frames that the run was scored on, or the windows of side "train", with conditions.

        The arrays of the former are read-only, as those of its draws are: copy them to change them.
        """
        return self._validation if side == "val" else self.checkpoint.frames(side)

    @cached_property
    def _validation(self) -> "ValidationFrames":
        from flowlab.evaluate.guarded import shut_frames

        return shut_frames(self.checkpoint.frames())  # the same ones each time: nobody may change them

    @cached_property
    def _draws(self) -> "Draws":
        from flowlab.lab.banks import raw_draws
        from flowlab.notebook.draws import with_frames

        with _nothing_compiled():
            draws = raw_draws(self.checkpoint, self.checkpoint.evaluation, self._validation)
        return with_frames(draws, self._validation)

    def draws(self) -> "Draws":
        """The draws that the run was scored by, raw (N, K, H, A) float32, with the frames in their `.frames`.

        The same object each time, and read-only: copy it to change it.
        """
        return self._draws

    def predict(
        self,
        condition: "ArrayLike | Tensor",
        readout: str = "meank",
        draws: int | None = None,
        seed: int = 0,
    ) -> "NDArray[np.float32]":
        """Raw chunks (N, H, A) for conditions (N, S, D), an array or tensor of the tokens that the policy sees.

        Drawn and held within the actuators as the run's evaluation says, from `draws` draws each if given. The noise of
        row n is that of frame n of a drive called "predict" in the bank of `seed`: it depends on nothing else, so the
        same rows give the same chunks, and more draws begin with the same ones.

        Raises PolicyError for a condition of another shape or with numbers that are not finite, and for a readout that
        needs more than draws and conditions (the truth, waypoints, the order of frames).
        """
        from flowlab.notebook.draws import predict

        with _nothing_compiled():
            return predict(self.checkpoint, condition, readout, draws, seed)

    def predictions(self, readout: str = "meank") -> "Predictions":
        """What `flowlab predict` writes: one chunk per validation frame, errors included; `.table()` is an Arrow table.

        Raises UnknownNameError or PluginError for a readout that is none.
        """
        from flowlab.lab.predictions import predict

        with _nothing_compiled():
            return predict(self.checkpoint, readout)

    def metrics(self) -> "polars.DataFrame":
        """Every number that the ledger has of the run, of all steps (-1 is the end): docs/words.md explains them."""
        question = """
            select metric, channel, slice, drive, readout, step, value from metrics where run_id = ?
            order by step, metric, readout, slice, drive, channel"""
        return self.study.sql(question, [self.run_id])


@contextmanager
def _nothing_compiled() -> Iterator[None]:
    """Plug-ins that lie in the study's folder are imported without leaving __pycache__ there."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before
