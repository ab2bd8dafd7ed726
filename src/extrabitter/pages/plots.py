"""How models are called and figures look: message as title, lines and dots labelled, your run on the same axes.

Words, colours and markers of models stand in arms.yaml beside this file.

Figures are five inches wide, so that their text stays legible when a telephone scales them down. They are drawn in the
colours of a light page; shown inline, each colour becomes a variable of the style sheet, which has a partner for dark
pages. No figure relies on colour alone: each model has a marker and its name beside it.
"""

from __future__ import annotations

import html
import io
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import matplotlib.style
import numpy as np
import pandas as pd
import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from extrabitter.pages.text import percent
from extrabitter.statistics import MISSING, Estimate, Interval, of_measure, t_interval

WIDTH_IN = 5.0
MAX_ARMS = 5
SMALL = 9.5  # points of the smallest text: 9 pixels where a telephone leaves 350 for the figure
INK, GREY, GRID, PAPER = "#222222", "#666666", "#dddddd", "#ffffff"
# Colours of arms.yaml, so that dark pages know them.
BLUE, PURPLE, GREEN, RED = "#0072b2", "#7a3e9d", "#00735a", "#b84e00"
_SPARE = ("#4a4f9c", "#a5a9f0", "H")  # of a model that arms.yaml does not name
_OWN_BELOW = 0.27  # your run's marks lie this far below their row
_DARK = {INK: "#e6e6e6", GREY: "#a8a8a8", GRID: "#3d4148", PAPER: "transparent"}

_RC: dict[Any, Any] = {
    **dict.fromkeys(("figure.facecolor", "savefig.facecolor"), PAPER),
    **dict.fromkeys(("axes.labelcolor", "text.color", "xtick.color", "ytick.color"), INK),
    **{"axes.facecolor": "none", "axes.edgecolor": GREY},
    **dict.fromkeys(("axes.spines.top", "axes.spines.right"), False),
    **{"axes.grid": True, "axes.axisbelow": True, "grid.color": GRID, "grid.linewidth": 0.7},
    **{"font.size": 10, "axes.labelsize": 10, "xtick.labelsize": SMALL, "ytick.labelsize": SMALL},
    "lines.linewidth": 1.8,
    # The same table has to give the same bytes; text stays text.
    **{"svg.hashsalt": "extrabitter", "svg.fonttype": "none"},
}


Table = pd.DataFrame | None


class Arm(NamedTuple):
    """A model on the pages: its words, its colour on a light and on a dark page, its marker.

    `starts_as` names another model that it is before RL.
    """

    words: str
    colour: str
    dark: str
    marker: str
    starts_as: str = ""


@cache
def known_arms() -> dict[str, Arm]:
    """Return the models that arms.yaml names, in the order in which pages list them."""
    text = Path(__file__).with_name("arms.yaml").read_text(encoding="utf-8")
    return {name: Arm(**values) for name, values in yaml.safe_load(text).items()}


def model_of(arm: str) -> str:
    """Strip when and band from an arm, so that a model has one name and colour before and after RL.

    >>> model_of("after_searcher"), model_of("before_taught_search_rare"), model_of("after_mine")
    ('searcher', 'taught_search', 'mine')
    """
    name = re.sub(r"^(before|after)_", "", arm)
    within = [known for known in known_arms() if f"{name}_".startswith(f"{known}_")]
    return max(within, key=len, default=name)


def describe(arm: str) -> Arm:
    """Return words, colours and marker of an arm's model; one that is not in arms.yaml keeps its name.

    >>> describe("after_taught_search").words, describe("my_arm").words
    ('taught to search', 'my arm')
    """
    model = model_of(arm)
    return known_arms().get(model) or Arm(model.replace("_", " "), *_SPARE)


def words(arm: str) -> str:
    """Say in words which model an arm is, and when it was measured.

    >>> words("after_guesser"), words("before_searcher"), words("searcher")
    ('guesser after RL', 'searcher before RL', 'searcher')
    """
    when = re.match(r"(before|after)_", arm)
    return describe(arm).words + (f" {when[1]} RL" if when else "")


class Row(NamedTuple):
    """One row of dots: a label, the model whose colour it has, what was measured, and the same of your run."""

    label: str
    arm: str
    end: Estimate
    start: Estimate = MISSING
    own_end: Estimate = MISSING
    own_start: Estimate = MISSING


# Draw in this context, whatever the reader's own settings are, and save in it too.
style = partial(matplotlib.style.context, _RC, after_reset=True)


@contextmanager
def drawing(title: str, height_in: float, **panels: Any) -> Iterator[tuple[Figure, Any]]:
    """Draw in the book's style on axes below their message, or on several, as `Figure.subplots` takes `panels`.

    The figure makes room for its labels by itself.
    """
    said = textwrap.wrap(title, 52)
    with style():
        fig = Figure(figsize=(WIDTH_IN, height_in + 0.2 * len(said)), layout="constrained")
        fig.suptitle("\n".join(said), x=0.01, ha="left", fontsize=11, fontweight="bold")
        yield fig, fig.subplots(**panels)


def rows_of(
    summary: pd.DataFrame, models: Sequence[str], measure: str, own: Table = None, ending: str = ""
) -> list[Row]:
    """Return what models had of a share of table `summary` before RL and after, and your run; a row each, best first.

    `ending` is that of the arms' names, such as "_islands44" where a band was evaluated.
    """
    rows = []
    for model in models:
        names = [f"{when}_{model}{ending}" for when in ("after", "before")]
        measured = [of_measure(summary, name, measure) for name in names]
        mine = [MISSING if own is None else of_measure(own, name, measure) for name in names]
        rows.append(Row(describe(model).words, model, *measured, *mine))
    return sorted(rows, key=lambda row: -np.nan_to_num(row.end.value, nan=-np.inf))


def dot_rows(rows: Sequence[Row], title: str, axis: str, share: bool = True) -> Figure:
    """Draw a dot and its interval a row, from the top; a row with a start has an arrow from there.

    ValueError for more than MAX_ARMS rows.
    """
    return dot_panels({"": rows}, title, axis, share)


def dot_panels(panels: Mapping[str, Sequence[Row]], title: str, axis: str, share: bool = True) -> Figure:
    """Draw rows of dots in named panels below each other, on one axis; ValueError as in `dot_rows`."""
    for rows in panels.values():
        _check_number(rows)
    heights = [len(rows) + 0.6 * bool(name) for name, rows in panels.items()]
    shape: dict[str, Any] = {"nrows": len(panels), "sharex": True, "squeeze": False, "height_ratios": heights}
    with drawing(title, 0.55 + 0.42 * sum(heights), **shape) as (fig, axes):
        for ax, (name, rows) in zip(axes[:, 0], panels.items(), strict=True):
            ax.set_title(name, loc="left", fontsize=SMALL, pad=3)
            _draw_rows(ax, rows)
            _label_axis(ax, "x", axis if ax is axes[-1, 0] else "", share)
    return fig


def _draw_rows(ax: Axes, rows: Sequence[Row]) -> None:
    """Draw rows on axes, each with its model's name in its colour."""
    ax.set_yticks(range(0, -len(rows), -1), [row.label for row in rows])
    own = []
    for place, (label, row) in enumerate(zip(ax.get_yticklabels(), rows, strict=True)):
        label.set_color(describe(row.arm).colour)
        _draw_row(ax, -place, row)
        own += [(row.own_end.value, -place - _OWN_BELOW)] if row.own_end.measured else []
    name_own(ax, own)
    ax.set_ylim(0.5 - len(rows), 0.5)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="y", visible=False)


def _draw_row(ax: Axes, y: float, row: Row) -> None:
    """Draw start, arrow, interval and end of a row at height `y`, and your run's marks a little below."""
    look = describe(row.arm)
    if row.start.measured:
        arrow = {"arrowstyle": "->", "color": look.colour, "shrinkA": 4, "shrinkB": 5}
        ax.annotate("", (row.end.value, y), (row.start.value, y), arrowprops=arrow)
        ax.plot(row.start.value, y, look.marker, color=look.colour, markerfacecolor=PAPER, markersize=6)
    ends = [row.end.lower, row.end.upper]
    if np.isfinite(ends).all():
        ax.plot(ends, [y, y], color=look.colour, linewidth=3.2, alpha=0.45, solid_capstyle="butt")
    ax.plot(row.end.value, y, look.marker, color=look.colour, markersize=7)
    for estimate, fill in ((row.own_start, PAPER), (row.own_end, INK)):
        if estimate.measured:
            ax.plot(estimate.value, y - _OWN_BELOW, "X", color=INK, markerfacecolor=fill, markersize=5.5)


def name_own(ax: Axes, marks: Sequence[tuple[float, float]]) -> None:
    """Write "your run" beside the first of your run's marks, (x, y)."""
    for mark in marks[:1]:
        write_small(ax, "your run", mark, (6, 0), va="center")


def curves(
    table: pd.DataFrame,
    models: Sequence[str],
    column: str,
    title: str,
    axis: str,
    own: Table = None,
    x: str = "step",
    x_axis: str = "RL step",
    window: int = 5,
) -> Figure:
    """Draw a share against `x`, a line a model named at its end: mean over seeds and its 95 % interval.

    `table` and `own` have seed, arm, `x` and `column`, as table `steps` has; each seed is a running mean over `window`
    rows. Your run is the dotted line.
    """
    _check_number(models)
    own = table[:0] if own is None else own
    looks = {look.words: Look(look.colour) for look in map(describe, models)}
    with drawing(title, 2.5) as (fig, ax):
        means, owns = [], []
        for model, look in zip(models, looks.values(), strict=True):
            means.append(mean_over_seeds(table, model, column, x, window))
            mine = _smooth(own, model, column, x, window).mean(axis=1)
            if len(mine):
                ax.plot(mine.index, mine, color=look.colour, linestyle=":", linewidth=1.5)
                owns.append((float(mine.index[len(mine) // 2]), float(mine.iloc[len(mine) // 2])))
        _label_axis(ax, "y", axis, share=True)
        name_own(ax, owns)
        ax.set_xlabel(x_axis)
        lines(ax, pd.concat(means), "words", "x", "value", looks)
    return fig


def write_small(
    ax: Axes, words: str, place: tuple[float, float], beside: tuple[float, float], **look: Any
) -> None:
    """Write small words so many points beside a place, over the edge of the axes too."""
    look |= {"textcoords": "offset points", "fontsize": SMALL, "annotation_clip": False}
    ax.annotate(words, place, beside, **look)


class Look(NamedTuple):
    """A line's colour, and where its name stands: with its `side` where it first reaches `height`, or at its end."""

    colour: str
    height: float | None = None
    side: Literal["left", "right"] = "left"


def lines(ax: Axes, table: pd.DataFrame, group: str, x: str, y: str, looks: Mapping[str, Look]) -> None:
    """Draw a named line a group of a table, with what lies between its lower and upper if it has these."""
    ends = []
    for name, rows in table.groupby(group, sort=False):
        colour, height, side = looks[str(name)]
        ax.plot(rows[x], rows[y], color=colour)
        if "lower" in rows:
            ax.fill_between(rows[x], rows["lower"], rows["upper"], color=colour, alpha=0.18, linewidth=0)
        if height is None:
            ends.append(((rows[x].iloc[-1], rows[y].iloc[-1]), str(name), colour))
        elif rows[y].max() > 0:
            place = (float(rows[x].iloc[int((rows[y] >= height).to_numpy().argmax())]), height)
            write_small(ax, str(name), place, (6 if side == "left" else -6, -4), color=colour, ha=side)
    ax.get_xlim(), ax.get_ylim()  # settles them
    pixels, at = float(ax.figure.dpi) / 72, -np.inf
    for end, words, colour in sorted(ends, key=lambda named: named[0][1]):
        own = float(ax.transData.transform(end)[1]) / pixels
        at = max(own, at + 12)  # a line of text apart from the name below
        write_small(ax, words, end, (5, at - own), color=colour, va="center")


def mean_over_seeds(table: pd.DataFrame, arm: str, column: str, x: str, window: int) -> pd.DataFrame:
    """Return the line of an arm: columns value, lower and upper, an interval over seeds, words and x."""
    by_seed = _smooth(table, arm, column, x, window)
    mean = pd.DataFrame(map(t_interval, by_seed.to_numpy()), columns=Interval._fields)
    return mean.assign(words=describe(arm).words, x=by_seed.index)


def _smooth(table: pd.DataFrame, arm: str, column: str, x: str, window: int) -> pd.DataFrame:
    """Return an arm's column as running means, a row a value of `x`, a column a seed, where all seeds have it."""
    wide = table[table["arm"] == arm].pivot_table(index=x, columns="seed", values=column)
    return wide.rolling(window, min_periods=1).mean().dropna()


def _check_number(drawn: Sequence[object]) -> None:
    if len(drawn) > MAX_ARMS:
        raise ValueError(f"a figure of {len(drawn)} arms: at most {MAX_ARMS} can be told apart")


def _label_axis(ax: Axes, which: str, words: str, share: bool) -> None:
    axis = ax.xaxis if which == "x" else ax.yaxis
    axis.set_label_text(words)
    if share:
        (ax.set_xlim if which == "x" else ax.set_ylim)(-0.02, 1.02)
        axis.set_ticks([0, 0.25, 0.5, 0.75, 1])
        axis.set_major_formatter(lambda value, _: percent(value))


def to_svg(fig: Figure) -> str:
    """Return a figure as SVG on white, the same text for the same figure."""
    buffer = io.StringIO()
    with style():
        fig.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def inline(svg: str, key: str, alt: str) -> str:
    """Return a figure's SVG as part of a page: named by `alt`, in the page's colours, its ids its own."""
    body = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    body = re.sub(r'\b(id="|href="#)', rf"\g<1>{key}-", body).replace("url(#", f"url(#{key}-")
    for colour in theme():
        body = body.replace(f": {colour}", f": var(--eb-{colour[1:]}, {colour})")
    head, _, rest = body.partition(">")
    head = re.sub(r' (?:width|height)="[^"]*"', "", head).removeprefix("<svg")
    return f'<svg class="eb-plot" role="img" aria-label="{html.escape(alt, quote=True)}"{head}>{rest}'


def theme() -> dict[str, str]:
    """Return the colours of figures and their partners on a dark page."""
    return _DARK | {arm.colour: arm.dark for arm in known_arms().values()}


def theme_css() -> str:
    """Return the style sheet that turns figures dark with the page."""
    pairs = "".join(f"  --eb-{colour[1:]}: {dark};\n" for colour, dark in theme().items())
    return f'html[data-theme="dark"] {{\n{pairs}}}\n'
