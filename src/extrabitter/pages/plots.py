"""How figures look, and how arms are called and coloured on every page.

Figures are five inches wide, so that their text stays legible when a telephone scales them down, and have a
solid background, so that they can be read in dark mode. Colours are Okabe and Ito's; no figure relies on
colour alone: each arm also has a marker and a line style of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import matplotlib
from matplotlib.artist import Artist
from matplotlib.figure import Figure

from extrabitter.pages.arms import ON_THE_WAY, base_of

WIDTH_IN = 5.0
INK = "#222222"
GREY = "#767676"

_RC: dict[Any, Any] = {
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "axes.facecolor": "white",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.labelsize": 11,
    "legend.fontsize": 10.5,
    "xtick.labelsize": 10.5,
    "ytick.labelsize": 10.5,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    # The same table has to give the same bytes.
    "svg.hashsalt": "extrabitter",
    "svg.fonttype": "path",
}


class ArmStyle(NamedTuple):
    """Colour, marker and line style of an arm."""

    colour: str
    marker: str
    line: str


_STYLES = {
    "absent": ArmStyle("#d55e00", "o", "-"),
    "rich": ArmStyle("#0072b2", "s", "-"),
    "latent": ArmStyle("#cc79a7", "D", "-"),
    "latent_weighted": ArmStyle("#882255", "<", "--"),
    "latent_forced": ArmStyle("#ddaa33", ">", "-."),
    "rich_masked": ArmStyle("#56b4e9", "v", "--"),
    "rich_permuted": ArmStyle("#8c6bb1", "X", ":"),
    "ladder_003": ArmStyle("#332288", "8", ":"),
    "ladder_01": ArmStyle("#aa4499", "p", "-."),
    "ladder_03": ArmStyle("#661100", "*", "--"),
    "ladder_1": ArmStyle("#8c6bb1", "<", ":"),
    "ladder_3": ArmStyle("#44aa99", ">", "--"),
    "ladder_1_g32": ArmStyle("#8c6bb1", "d", "-"),
    "ladder_3_g32": ArmStyle("#44aa99", "h", "-"),
    "rich_b64": ArmStyle("#0072b2", "P", ":"),
    "ladder_3_b64": ArmStyle("#44aa99", "X", ":"),
    "rich_g32": ArmStyle("#0072b2", "H", "--"),
    "rich_bonus": ArmStyle("#56b4e9", "d", "--"),
    "rich_tight": ArmStyle("#ddaa33", ">", "-."),
    "rich_tight_bonus": ArmStyle("#882255", "<", "-"),
    "rich_qwen2": ArmStyle("#56b4e9", "p", ":"),
    "absent_qwen2": ArmStyle("#e69f00", "d", ":"),
    "cosmetic": ArmStyle("#e69f00", "P", "-."),
    "sft_verification_backtracking": ArmStyle("#009e73", "^", "-"),
    "sft_all_behaviours": ArmStyle("#117733", "<", "--"),
    "sft_direct": ArmStyle("#767676", "h", "-."),
    "sft_filler": ArmStyle("#444444", "*", ":"),
    "smollm2": ArmStyle("#d55e00", "o", "-"),
    "sft_smollm2_direct": ArmStyle("#767676", "h", "-."),
    "sft_smollm2_search": ArmStyle("#009e73", "^", "--"),
}
_SPARE = [
    ArmStyle("#332288", ">", "--"),
    ArmStyle("#aa4499", "d", ":"),
    ArmStyle("#661100", "p", "-."),
    ArmStyle("#44aa99", "H", "--"),
]

_WORDS = {
    "trunk": "trunk",
    "absent": "absent: never searches",
    "rich": "rich: sometimes searches",
    "latent": "latent: only when cued",
    "latent_weighted": "latent, search forced and weighted back",
    "latent_forced": "latent, search forced",
    "rich_masked": "rich, search words masked",
    "rich_permuted": "rich, rewards permuted",
    "ladder_003": "ladder: three documents in ten thousand search",
    "ladder_01": "ladder: one in a thousand searches",
    "ladder_03": "ladder: three in a thousand search",
    "ladder_1": "ladder: one document in a hundred searches",
    "ladder_3": "ladder: three in a hundred search",
    "ladder_1_g32": "ladder: one in a hundred, groups of 32",
    "ladder_3_g32": "ladder: three in a hundred, groups of 32",
    "rich_g32": "rich, groups of 32",
    "rich_b64": "rich, a quarter of the completions",
    "ladder_3_b64": "ladder: three in a hundred, a quarter of the completions",
    "rich_bonus": "rich, bonus for form",
    "rich_tight": "rich, tight cap",
    "rich_tight_bonus": "rich, tight cap and bonus for form",
    "rich_qwen2": "rich, as a Qwen2",
    "absent_matched": "absent, with as many problems",
    "absent_qwen2": "absent, as a Qwen2",
    "trunk_qwen2": "trunk, as a Qwen2",
    "cosmetic": "cosmetic: the words only",
    "sft_verification_backtracking": "absent, primed to check and go back",
    "sft_all_behaviours": "absent, primed with all four habits",
    "sft_direct": "absent, primed with direct traces",
    "sft_filler": "absent, primed with dots",
    "sft_incorrect": "absent, primed with wrong answers",
    "sft_incorrect_accepted": "absent, primed with wrong answers taken for right",
    "sft_cosmetic": "absent, primed with empty words",
    "smollm2": "SmolLM2, not primed",
    "sft_smollm2_direct": "SmolLM2, primed with direct answers",
    "sft_smollm2_search": "SmolLM2, primed to check and go back",
    "sft_mixed": "absent, primed with each habit by half",
    "sft_mixed_cosmetic": "absent, primed with each by half, verdicts empty",
}


def arm_label(arm: str) -> str:
    """Say in words what an arm is.

    >>> arm_label("grpo_rich")
    'rich: sometimes searches'
    >>> arm_label("grpo_sft_backward_chaining")
    'absent, primed: backward chaining'
    >>> arm_label("step_20_grpo_rich")
    'rich: sometimes searches, after 20 steps'
    """
    base = base_of(arm)
    if on_the_way := ON_THE_WAY.match(arm):
        return f"{arm_label(base)}, after {on_the_way[1]} steps"
    if base in _WORDS:
        return _WORDS[base]
    if base.startswith("sft_"):
        return "absent, primed: " + base.removeprefix("sft_").replace("_", " ")
    return base.replace("_", " ")


def arm_style(arm: str) -> ArmStyle:
    """Return the style of an arm; the same for the same model before and after RL."""
    base = base_of(arm)
    return _STYLES.get(base) or _SPARE[sum(base.encode()) % len(_SPARE)]


@contextmanager
def style() -> Iterator[None]:
    """Draw inside this context, and save inside it too."""
    with matplotlib.rc_context(_RC):
        yield


def new_figure(height_in: float) -> Figure:
    """Return an empty figure that makes room for its legend and labels by itself."""
    return Figure(figsize=(WIDTH_IN, height_in), layout="constrained")


def legend_above(fig: Figure, entries: dict[str, Artist]) -> None:
    """Put one legend for all panels above them, one entry a line so that none is clipped."""
    fig.legend(list(entries.values()), list(entries), loc="outside upper left", ncols=1, handlelength=3)


def empty_figure(message: str) -> Figure:
    """Return a figure that says why there is nothing to see; missing is not zero."""
    with style():
        fig = new_figure(1.6)
        fig.text(0.5, 0.5, message, ha="center", va="center", wrap=True, color=GREY, fontsize=11)
    return fig
