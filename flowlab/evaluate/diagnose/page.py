"""One diagnosis as one HTML file: sentences, tables and pictures. No script, nothing from a network."""

from collections.abc import Mapping
from html import escape
from typing import Any

from flowlab.evaluate.diagnose.diagnosis import Diagnosis, Shown

STYLE = """
body { background: #fff; color: #222; font: 15px/1.45 sans-serif; margin: 2em auto; max-width: 1020px; padding: 0 1em }
h1 { font-size: 1.4em } h2 { font-size: 1.05em; margin: 1.6em 0 .4em }
.facts { color: #555; font-size: .9em }
table { border-collapse: collapse; font-size: .92em }
th, td { padding: .18em .9em .18em 0; text-align: left } th { border-bottom: 1px solid #999 }
td.number { font-variant-numeric: tabular-nums; text-align: right } th.number { text-align: right }
svg { display: block; height: auto; margin: 1em 0; max-width: 100% }
@media print { body { margin: 0; max-width: none } svg, table { break-inside: avoid } }
"""


def page(diagnosis: Diagnosis, facts: Mapping[str, str]) -> str:
    """The whole file. `facts`: what of which run, by name."""
    title = f"{diagnosis.name} of {facts.get('run', 'a run')}"
    told = " &middot; ".join(f"{escape(name)} {escape(value)}" for name, value in facts.items())
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>",
        f'<h1>{escape(title)}</h1><p class="facts">{told}</p><p><em>{escape(diagnosis.asks)}</em></p>',
        *(f"<p>{escape(sentence)}</p>" for sentence in diagnosis.says),
        *diagnosis.pictures,
        *(_table(one) for one in diagnosis.tables),
        "</body></html>\n",
    ]
    return "\n".join(parts)


def _table(shown: Shown) -> str:
    numeric = [any(isinstance(row[index], int | float) for row in shown.rows) for index in range(len(shown.columns))]
    head = "".join(_cell("th", name, number) for name, number in zip(shown.columns, numeric, strict=True))
    rows = "".join(
        f"<tr>{''.join(_cell('td', _words(value), number) for value, number in zip(row, numeric, strict=True))}</tr>"
        for row in shown.rows
    )
    return f"<h2>{escape(shown.title)}</h2><table><tr>{head}</tr>{rows}</table>"


def _cell(kind: str, words: str, is_number: bool) -> str:
    return f"<{kind}{' class=number' if is_number else ''}>{escape(words)}</{kind}>"


def _words(value: Any) -> str:
    if value is None or value == "":
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
