"""Mutants of experiments.toml, read as a study is: `python -m tests.fuzz.toml --count 2000 --seed 1`.

Each is a study whose every lever has a setup and whose rules can be written out, or one sentence.
"""

import random
import re
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from flowlab.lab.caches import Wanted, frames_wanted
from flowlab.study.document import FILE_NAME
from flowlab.study.lever import changed_keys
from flowlab.study.study import Study, build_study, load_study
from flowlab.train.cohort import shape_signature
from tests.cli.tiny_study import TINY
from tests.fuzz import mutate

ROOT = Path(__file__).parent.parent.parent
VALUES = (
    "nan", "inf", "-inf", "1e400", "1e-400", "-0.0", "0", "-1", "1", "2", "0.5", "1e300", "5e-324", "0x7fff",
    "9223372036854775807", "9223372036854775808", "-9223372036854775809", "9" * 5000, "2147483648", "1_000_000", "true",
    '""', '" "', '"a"', '"nan"', '"\\u0000"', '"\\ud800"', '"é∞"', "'''\na\n'''", '"' + "x" * 3000 + '"', '"os:path"',
    '"tests.policy.mlp_decoder:build"', '"no.such:thing"', '"json:loads"', '":"', '"a:"', '"../../x"', '"control"',
    "[]", "[1, 1]", '["a", "a"]', "[0.5, nan]", "{}", "{ a = 1 }", "{ a.b.c = [1] }", "[{}]", "[" * 400 + "]" * 400,
    "1979-05-27", "1979-05-27T07:32:00Z", "07:32:00", "[1979-05-27]", '"drive:drive_01"', '"placebo"', '["placebo"]',
)  # fmt: skip
HEADERS = (
    "[study]", "[drives]", "[levers]", "[levers.a]", "[levers.control]", "[[levers.a]]", "[control]", "[control.train]",
    "[rules.panel]", "[a.b.c]", '["" ]', "[slices.spike_frame]", "[levers.a.set]", "[cache]", "[encoder]", "[rules.x]",
)  # fmt: skip
KEYS = (
    "version", "set", "a", '"train.lr"', "train.lr", '"drives.count"', '"split.without"', "stats", '""', '"é"',
    "stacked", "options", "source", "kind", "preset", "roots", "variants", "x" * 300, '"a.b.c.d"', "stages",
)  # fmt: skip
ODD: tuple[Any, ...] = (
    *(value for value in mutate.ODD if value is not None), 3, 64, 1e-9, 0.25, 1e6, "flow", "regression", "slot-queries",
    "gaussianize-dct", "mu-law", "steering", "gas", "overall", "flat_frame", "panel", "fresh", "screen", "own",
    "udacity",
)  # fmt: skip


def bases() -> list[str]:
    """The tiny study, and the repository's own file."""
    return [TINY.replace("STEPS", "20"), (ROOT / FILE_NAME).read_text()]


def lines_changed(text: str, chance: random.Random) -> str:
    """The text with some values, keys or headers replaced, or lines put in."""
    lines = text.split("\n")
    for _ in range(chance.choice([1, 1, 2, 5])):
        place = chance.randrange(len(lines))
        how = chance.randrange(4)
        if how == 0:
            places = [number for number, line in enumerate(lines) if re.match(r"[^\[#]+=", line)]
            place = chance.choice(places) if places else place
            lines[place] = f"{lines[place].partition('=')[0]}= {chance.choice(VALUES)}"
        elif how == 1:
            lines.insert(place, f"{chance.choice(KEYS)} = {chance.choice(VALUES)}")
        elif how == 2:
            lines.insert(place, chance.choice(HEADERS))
        else:
            lines[place] = re.sub(r"[\w.-]+", lambda found: chance.choice([found[0], "x", *KEYS]), lines[place])
    return "\n".join(lines)


def look(study: Study) -> str:
    """All that is asked of a study before anything is trained."""
    study.rule.digest()
    for lever in ("control", *study.open_levers):
        setup = study.setup(lever)
        changed_keys(study.base, setup)
        shape_signature(setup.recipe)
        Wanted(setup.inputs, None, (lever,)).name  # noqa: B018
        if lever != "control":
            study.idle_keys(lever)
            study.twin_keys(lever)
    frames_wanted(study)
    str(study.overtaken), str(study.stats_inputs), str(study.slices)
    return "taken"


def mutant(folder: Path, chance: random.Random) -> str:
    """Make one, and look at the study that it is."""
    base = chance.choice(bases())
    how = chance.randrange(4)
    if how == 0:  # values that TOML cannot say, too: they must not be taken for others
        return look(build_study(folder, mutate.value_changed(tomllib.loads(base), chance, ODD)))
    content = base.encode()
    if how == 1:
        content = mutate.damaged(content, chance)
    elif how == 2:
        content = mutate.lines_moved(content, chance)
    else:
        content = lines_changed(base, chance).encode(errors="surrogatepass")
    (folder / FILE_NAME).write_bytes(content)
    return look(load_study(folder))


def run(count: int, seed: int) -> mutate.Tally:
    tally = mutate.Tally()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            chance = random.Random(f"{seed} {number}")
            tally.attempt(f"seed {seed} {number}", lambda chance=chance: mutant(Path(folder), chance))
    return tally


if __name__ == "__main__":
    mutate.main(run, 2000)
