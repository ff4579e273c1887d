"""Studies with a table [stores], and one cheap run of them: stored.py STUDY trains it slowly, for a test to kill."""

import sys
import time
from pathlib import Path

import flowlab.train.fit
from flowlab.core.vocabulary import CONTROL
from flowlab.journal.journal import RUN_JOURNAL, read_journal
from flowlab.lab.exploring import explore, parse_changes, with_changes
from flowlab.lab.launch import Launched, Where
from flowlab.lab.run_dir import RunDir
from flowlab.study.study import Study, load_study
from flowlab.train.checkpoint import POLICY_FILE, Resume
from tests.lab.small_study import CPU, Said

STEPS = 12


def stored_at(study: Study, **places: object) -> Study:
    """The study with a table [stores]."""
    path = study.root / "experiments.toml"
    table = "\n".join(f'{name} = "{place}"' for name, place in places.items())
    path.write_text(f"{path.read_text()}\n[stores]\n{table}\n")
    return load_study(study.root)


def explore_one(study: Study) -> Launched:
    """Train a run that no rule asks for: the cheapest one there is."""
    changed, name = with_changes(study, parse_changes(["train.lr=2e-3", f"train.steps={STEPS}"]), CONTROL)
    return explore(changed, name, [7], Where(CPU, "inline"), Said(), lambda _: None)


def numbers_of(study: Study) -> dict[str, list[dict[str, object]]]:
    """The metric rows of each run, by its id, and the bytes of its policy."""
    found = {}
    for path in study.runs.glob(f"*/{RUN_JOURNAL}"):
        lines = read_journal(path)[0]
        rows = [line["rows"] for line in lines if line["kind"] == "metrics"]
        found[path.parent.name] = [*rows, (path.parent / POLICY_FILE).read_bytes()]
    return found


class Slow(RunDir):
    def keep(self, state: Resume) -> None:
        super().keep(state)
        time.sleep(0.2)


if __name__ == "__main__":
    import flowlab.lab.sharing

    flowlab.train.fit.RESUME_EVERY_S, flowlab.train.fit.RESUME_SHARE = 0.0, 1e9
    flowlab.lab.sharing.RunDir = Slow
    explore_one(load_study(Path(sys.argv[1])))
