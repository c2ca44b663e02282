"""A figure of curves with intervals, as SVG by hand: nothing to install."""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 420, 70, 170, 40, 50
COLOURS = ("#999999", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000",
           "#8c564b", "#bcbd22", "#7f3c8d")  # fmt: skip
LEAST = 1e-4


def figure(
    title: str,
    rows: Sequence[Mapping[str, Any]],
    interval: Callable[[np.ndarray], tuple[float, float]],
) -> str:
    """Returns the missing share of the hypervolume against tokens, both on logarithmic axes.

    Args:
        title: written above.
        rows: a row per algorithm, seed and point.
        interval: of the mean of some values.
    """
    lines = curves(rows, interval)
    x = np.log10(np.concatenate([line[:, 0] for line in lines.values()]))
    y = np.log10(np.concatenate([line[:, 1] for line in lines.values()]))
    low, high = (x.min(), y.min()), (x.max(), y.max())

    def place(points: np.ndarray) -> str:
        across = (np.log10(points[:, 0]) - low[0]) / max(high[0] - low[0], 1e-9)
        up = (np.log10(points[:, 1]) - low[1]) / max(high[1] - low[1], 1e-9)
        px = LEFT + across * (WIDTH - LEFT - RIGHT)
        py = HEIGHT - BOTTOM - np.clip(up, 0, 1) * (HEIGHT - TOP - BOTTOM)
        return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(px, py, strict=True))

    parts = [_text(LEFT, 22, title, 14)]
    for i, (name, line) in enumerate(lines.items()):
        colour = COLOURS[i % len(COLOURS)]
        band = np.concatenate([line[:, [0, 2]], line[::-1][:, [0, 3]]])
        parts.append(f'<polygon points="{place(band)}" fill="{colour}" opacity="0.12"/>')
        parts.append(
            f'<polyline points="{place(line)}" fill="none" stroke="{colour}" stroke-width="2"/>'
        )
        parts.append(_text(WIDTH - RIGHT + 12, TOP + 18 * (i + 1), name, 12, colour))
    for end, at in ((low, 0), (high, 1)):
        across = LEFT + at * (WIDTH - LEFT - RIGHT) - 20
        up = HEIGHT - BOTTOM - at * (HEIGHT - TOP - BOTTOM) + 4
        parts.append(_text(across, HEIGHT - BOTTOM + 18, f"{10 ** end[0]:.3g}", 11))
        parts.append(_text(8, up, f"{10 ** end[1]:.2g}", 11))
    parts.append(_text(LEFT + 120, HEIGHT - 10, "dense-equivalent tokens spent", 12))
    parts.append(_text(8, TOP - 6, "1 − HV/HV*", 12))
    parts.append(
        f'<path d="M{LEFT},{TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}" fill="none" stroke="#333"/>'
    )
    size = f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
    body = "\n".join(parts)
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n{body}\n</svg>\n'


def curves(
    rows: Sequence[Mapping[str, Any]], interval: Callable[[np.ndarray], tuple[float, float]]
) -> dict[str, np.ndarray]:
    """Returns tokens, missing share, and the ends of its interval by algorithm (N, 4)."""
    found: dict[str, list[list[float]]] = {}
    for name in dict.fromkeys(row["algorithm"] for row in rows):
        mine = [row for row in rows if row["algorithm"] == name]
        for n_eval in sorted({row["n_eval"] for row in mine}):
            here = [row for row in mine if row["n_eval"] == n_eval]
            missing = np.maximum(1.0 - np.array([row["share"] for row in here]), LEAST)
            tokens = float(np.mean([row["tokens"] for row in here]))
            found.setdefault(name, []).append([tokens, float(missing.mean()), *interval(missing)])
    return {name: np.array(line) for name, line in found.items()}


def _text(x: float, y: float, text: str, size: int, colour: str = "#333") -> str:
    style = f'font-family="sans-serif" font-size="{size}" fill="{colour}"'
    return f'<text x="{x:.0f}" y="{y:.0f}" {style}>{escape(text)}</text>'
