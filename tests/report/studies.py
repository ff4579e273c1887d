"""Studies whose ledgers are told by hand, in a moment: an experiments.toml, and journals beside it."""

from pathlib import Path

from flowlab.study.study import Study, load_study
from tests.cli.tiny_study import TINY
from tests.ledger.judged_ledger import make_judged

WIDE = """
[levers.wide]
set = { "decoder.width" = 32 }
hypothesis = "HYPOTHESIS"
"""


def write_judged(folder: Path, hypothesis: str = "more room") -> Study:
    """The four runs of docs/views.md as a study of their own."""
    folder.mkdir(parents=True)
    text = TINY.replace("STEPS", "20") + WIDE.replace("HYPOTHESIS", hypothesis)
    (folder / "experiments.toml").write_text(text)
    make_judged(folder / "ledger.duckdb", folder / "runs")
    return load_study(folder)


def section(page: str, name: str) -> str:
    """What stands in one section of a page."""
    start = page.index(f'<section id="{name}"')
    return page[start : page.index("</section>", start)]
