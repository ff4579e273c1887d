"""study.stacked is written into experiments.toml, and nothing else of it changes."""

import pytest

from flowlab.core.errors import StudyError
from flowlab.study.document import parse_document
from flowlab.study.stacking import with_stacked

LINE = 'stacked = ["a", "b"]  # by flowlab stack; do not edit'


@pytest.mark.parametrize(
    ("text", "new"),
    [
        ('[study]\nname = "x"\n', f'[study]\n{LINE}\nname = "x"\n'),
        ('# head\n[study]  # mine\nname = "x"\n', f'# head\n[study]  # mine\n{LINE}\nname = "x"\n'),
        ('[study]\r\nname = "x"\r\n', f'[study]\r\n{LINE}\r\nname = "x"\r\n'),
        ('\ufeff[study]\nname = "x"\n', f'\ufeff[study]\n{LINE}\nname = "x"\n'),
        ('[study]\nstacked = ["a"]\nname = "x"', f'[study]\n{LINE}\nname = "x"'),
        ('[study]\nstacked = [\n  "a",\n]\nname = "x"', f'[study]\n{LINE}\nname = "x"'),
        ("[a]\nb = 1\n[study]", f"[a]\nb = 1\n[study]\n{LINE}"),
    ],
)
def test_one_line_is_written(text: str, new: str) -> None:
    assert with_stacked(text, ("a", "b")) == new
    assert parse_document(new.removeprefix("\ufeff"))["study"]["stacked"] == ["a", "b"]


@pytest.mark.parametrize(
    "text",
    [
        'study = { name = "x" }\n',
        'study.name = "x"\n',
        '[ study ]\nname = "x"\n',
        'a = """\n[study]\n"""\n["study"]\nname = "x"\n',
        '[study]\n  stacked = ["a"]\n',
    ],
)
def test_an_unusual_table_is_refused(text: str) -> None:
    with pytest.raises(StudyError, match=r"nothing was stacked\. Begin it with a line"):
        with_stacked(text, ("a", "b"))
