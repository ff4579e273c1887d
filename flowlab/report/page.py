"""The whole report as one HTML file: read by section, put into templates that escape every text, written at once."""

import base64
import hashlib
import importlib.metadata
import json
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowlab.core.digest import digest_json
from flowlab.core.errors import DiskError, StudyError
from flowlab.core.figures import duration, figure, share
from flowlab.core.files import trouble, write_atomic
from flowlab.core.progress import SILENT, Progress
from flowlab.ledger.connection import read, reading
from flowlab.report.board import read_boards
from flowlab.report.campaign import read_campaign, seed_text
from flowlab.report.cards import read_cards
from flowlab.report.curves import HEIGHT, WIDTH
from flowlab.report.numbers import read_numbers
from flowlab.report.overlays import read_overlays
from flowlab.report.predicted import Kept
from flowlab.report.residuals import PARTS, read_residuals
from flowlab.report.rules import read_rule
from flowlab.report.state import read_state
from flowlab.study.study import Study

if TYPE_CHECKING:
    import jinja2

FOLDER = Path(__file__).parent / "page"
MARK, MARK_WITHIN = b'content="flowlab report"', 4096
"""What a report says of itself within its first bytes: only a report makes way for one."""
SCRIPTS = ("page.js", "table.js", "plots.js")


def write_report(study: Study, path: Path, progress: Progress = SILENT) -> Path:
    """The report of what the ledger holds now, at `path`, whole or not at all: one that is there makes way for it.

    Raises StudyError for a path that is no place for it, MissingError where there is no ledger, DiskError where the
    file system refuses the file.
    """
    require_place(path)
    text = render(study, progress)
    try:
        write_atomic(path, text.encode())
    except OSError as error:
        raise DiskError(trouble(error, path)) from None
    return path


def require_place(path: Path) -> None:
    """Raises StudyError, before anything is read, for a folder, another kind of file, or a file that is no report."""
    if path.is_dir():
        raise StudyError(f"--out got {str(path)!r}, which is a folder. Name a file in it: {path / 'report.html'}")
    if path.suffix not in (".html", ".htm"):
        raise StudyError(f"--out got {str(path)!r}, and a report is an HTML file. Give a name that ends in .html")
    if path.exists() and MARK not in path.read_bytes()[:MARK_WITHIN]:
        raise StudyError(f"--out got {str(path)!r}, which is there and is no report of flowlab. Name another file.")


def render(study: Study, progress: Progress = SILENT, kept: Kept | None = None, digest: str = "") -> str:
    """The page. With `digest` it is a live one, which asks its server whether the campaign has another digest now."""
    campaign = read_campaign(study)
    overlays = read_overlays(campaign, progress, {} if kept is None else kept)
    with reading(study.ledger):
        numbers = read_numbers(campaign)
        sections = {
            "state": read_state(campaign),
            "boards": read_boards(campaign),
            "cards": read_cards(campaign),
            "residuals": read_residuals(campaign),
            "rule": read_rule(campaign),
        }
    script = "\n".join((FOLDER / name).read_text() for name in SCRIPTS)
    found = hashlib.sha256(_as_parsed(script).encode()).digest()
    return (
        _environment()
        .get_template("page.html")
        .render(
            study=study,
            campaign=campaign,
            primary=campaign.primary,
            **sections,
            parts=PARTS,
            overlays=overlays,
            data={"numbers": numbers, "overlays": overlays.shared, "windows": overlays.windows},
            style=(FOLDER / "style.css").read_text(),
            script=script,
            script_hash=base64.b64encode(found).decode(),
            curve_box=(WIDTH, HEIGHT),
            digest=digest,
            version=importlib.metadata.version("flowlab"),
            now_us=int(datetime.now().timestamp() * 1e6),
        )
    )


def campaign_digest(study: Study) -> str:
    """16 hex digits that change when a run starts or ends, and when anything is decided, said or owed anew."""
    runs = "select run_id, status, num_attempts from run_status order by run_id"
    chain = "select kind, max(entry) from chain where kind <> 'ingested' group by kind order by kind"
    return digest_json([[list(row) for row in read(study.ledger, asked).rows] for asked in (runs, chain)])


def _as_parsed(script: str) -> str:
    """The script as it stands between its tags, which is what the page's policy names by its digest."""
    return f"\n{script}\n"


@cache
def _environment() -> "jinja2.Environment":
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    environment.filters |= {
        "figure": lambda value: "–" if value is None else figure(value),
        "signed": lambda value: "–" if value is None else f"{'−' if value < 0 else '+'}{figure(abs(value))}",
        "share": share,
        "seed": seed_text,
        "when": _when,
        "duration": duration,
        "verbatim": Markup,
        "data": lambda value: Markup(as_data(value)),
    }
    return environment


def as_data(value: Any) -> str:
    """JSON that may stand within a script element: nothing in it ends the element, or a line of JavaScript."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def _when(time_us: int | None) -> str:
    """A time of this machine's zone, which is named: pages are sent to people in others."""
    if time_us is None:
        return "–"
    return datetime.fromtimestamp(time_us / 1e6).astimezone().strftime("%Y-%m-%d %H:%M %Z")
