"""Text for the page: escaping, numbers with sensible digits, tables."""

import html
import math
from collections.abc import Iterable, Sequence
from typing import Any, TypeGuard

_SUFFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k"))
MISSING = "–"
# What the columns of a front begin with, and how the page calls the split.


class Markup(str):
    """HTML that is to be left as it is."""


def escape(value: object) -> str:
    """Returns a value as text that is safe inside HTML; markup is left as it is."""
    return value if isinstance(value, Markup) else html.escape(str(value), quote=True)


def is_number(value: object) -> TypeGuard[float]:
    """Returns whether a value is a finite number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def number(value: Any) -> str:
    """Returns a number as a person reads it: 6.44 M, 37.3, 0.4143."""
    if not is_number(value):
        return MISSING
    size = abs(value)
    for scale, suffix in _SUFFIXES:
        if size >= scale:
            return f"{value / (1e3 if suffix == 'k' else scale):.3g} {suffix}"
    if isinstance(value, int) or size < 1e-12:
        return str(int(value))
    if size < 1e-3:
        return f"{value:.2e}"
    digits = 4 if size < 1 else 3 if size < 10 else 2 if size < 100 else 1 if size < 1000 else 0
    return f"{value:.{digits}f}"


def interval(low: Any, high: Any) -> str:
    """Returns an interval as text, empty where there is none."""
    return f"{number(low)} … {number(high)}" if is_number(low) and is_number(high) else ""


def table(head: Sequence[object], rows: Iterable[Sequence[object]], numeric: int = 10**6) -> str:
    """Returns an HTML table.

    Args:
        head: the column titles.
        rows: cells, escaped unless they are markup.
        numeric: the first column that is set flush right.
    """

    def line(cells: Sequence[object], tag: str) -> str:
        parts = [
            f"<{tag}{' class=num' if i >= numeric else ''}>{escape(cell)}</{tag}>"
            for i, cell in enumerate(cells)
        ]
        return f"<tr>{''.join(parts)}</tr>"

    body = "".join(line(row, "td") for row in rows)
    return (
        f"<div class=scroll><table><thead>{line(head, 'th')}</thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def pairs(rows: Iterable[tuple[object, object]]) -> str:
    """Returns a list of terms and what they are."""
    items = "".join(f"<dt>{escape(term)}</dt><dd>{escape(what)}</dd>" for term, what in rows)
    return f"<dl>{items}</dl>"


def card(title: str, body: str, note: str = "", kind: str = "") -> str:
    """Returns a section of the page; the body is HTML, title and note are text."""
    caption = f"<p class=caption>{escape(note)}</p>" if note else ""
    return f'<section class="card {kind}"><h2>{escape(title)}</h2>{caption}{body}</section>'
