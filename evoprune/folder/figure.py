"""A front as an interactive figure, for notebooks."""

from typing import TYPE_CHECKING, Any

from evoprune.core.errors import EvopruneError
from evoprune.folder.picture import View, picked, short, view

if TYPE_CHECKING:
    from evoprune.folder.front import Front, FrontPoint


def figure(front: "Front", x: str | None, y: str | None, split: str | None) -> Any:
    """Returns a plotly figure of a front; see ``Front.plot``.

    Raises:
        ConfigError: there is no such column or split.
        EvopruneError: plotly is not installed.
    """
    try:
        import plotly.graph_objects as go
    except ImportError as error:
        raise EvopruneError(
            "A figure needs plotly, which is not installed.", "Install it with: pip install plotly."
        ) from error
    seen = view(front, x, y, split)
    made = go.Figure()
    made.add_scatter(
        x=seen.values(seen.x),
        y=seen.steps() if seen.points else [],
        mode="lines",
        line={"shape": "hv"},
        name="front",
        hoverinfo="skip",
    )
    names = picked(front, seen.points)
    for title, chosen in (("points", False), ("picks", True)):
        made.add_scatter(**_points(seen, names, chosen), name=title)
    dense = [front.dense.get(axis.column) for axis in (seen.x, seen.y)]
    if None not in dense:
        made.add_scatter(
            x=dense[:1], y=dense[1:], mode="markers", marker_symbol="cross", name="dense"
        )
    unseen = f" ({seen.hidden} worse or unmeasured not shown)" if seen.hidden else ""
    made.update_layout(
        xaxis_title=seen.x.name,
        yaxis_title=f"{seen.y.name} on {seen.split}{unseen}",
        template="plotly_white",
    )
    return made


def _points(seen: View, names: dict[str, str], chosen: bool) -> dict[str, Any]:
    """Returns the points that are picks, or those that are not, as plotly draws them."""
    points = [point for point in seen.points if (point.id in names) == chosen]
    return {
        "x": [point.values[seen.x.column] for point in points],
        "y": [point.values[seen.y.column] for point in points],
        "mode": "markers+text" if chosen else "markers",
        "text": [names.get(point.id, "") for point in points],
        "textposition": "top center",
        "marker": {"size": 11 if chosen else 7},
        "hovertext": [_hover(point) for point in points],
        "hovertemplate": "%{hovertext}<extra></extra>",
    }


def _hover(point: "FrontPoint") -> str:
    values = [f"{name}: {short(float(value))}" for name, value in point.values.items()]
    return "<br>".join([f"<b>{point.id}</b>", *values])
