"""Figures can be drawn from one seed, from three and with a failed arm; nothing in them is cut off or tiny."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from scipy import stats

from extrabitter.pages import arms
from extrabitter.experiments import figures
from extrabitter.experiments import training_figures
from extrabitter.runs import collect_table
from extrabitter.estimates import of_measure
from extrabitter.pages.plots import WIDTH_IN, arm_label, arm_style, style
from extrabitter.published_results import gandhi_priming
from extrabitter.pages.chapter import save_figure
from synthetic_results import MODELS, PRIMED, write_results

PAIRS = [(model if model in PRIMED else f"base_{model}", f"grpo_{model}") for model in MODELS]
BEFORE = [before for before, _ in PAIRS]
TRAINED = [after for _, after in PAIRS]
SMALLEST_PT = 9.0

Draw = Callable[[Path], Figure]


def table(results: Path, stage: str, name: str):
    return collect_table(results, stage, name)


def starts_and_ends(results: Path) -> pd.DataFrame:
    """Made-up models before and after RL in one panel, the published runs in another; empty where nothing ran."""
    summary = table(results, "behaviour_evaluation", "summary")
    rows = [
        (
            arm_label(after),
            after,
            of_measure(summary, before, "pass@1").value,
            of_measure(summary, after, "pass@1").value,
        )
        for before, after in PAIRS
    ]
    ours = pd.DataFrame(rows, columns=["name", "arm", "start", "end"]).assign(group="ours")
    theirs = gandhi_priming().assign(group="theirs").rename(columns={"condition": "name"})
    return pd.concat([ours, theirs]).dropna(subset=["start", "end"]) if len(summary) else ours[:0]


DRAWINGS: dict[str, Draw] = {
    "loss_curves": lambda r: figures.loss_curves(table(r, "base_model", "losses")),
    "bar_values": lambda r: figures.bar_values(table(r, "base_model", "bars")),
    "search_rates": lambda r: figures.search_rates(table(r, "behaviour_evaluation", "summary"), BEFORE),
    "accuracies": lambda r: figures.accuracies(table(r, "behaviour_evaluation", "summary"), BEFORE),
    "before_and_after": lambda r: figures.before_and_after(
        table(r, "behaviour_evaluation", "summary"), PAIRS, "pass@1", "unseen problems solved (pass@1)"
    ),
    "behaviour_shares": lambda r: figures.behaviour_shares(
        table(r, "behaviour_evaluation", "summary"), PAIRS
    ),
    "pass_at_k_curves": lambda r: figures.pass_at_k_curves(
        table(r, "behaviour_evaluation", "pass_at_k"), PAIRS
    ),
    "start_and_end": lambda r: figures.start_and_end(starts_and_ends(r)),
    "rewards": lambda r: training_figures.rewards(table(r, "grpo", "steps"), TRAINED),
    "decomposition": lambda r: training_figures.decomposition(table(r, "grpo", "steps"), TRAINED),
    "health": lambda r: training_figures.health(table(r, "grpo", "steps"), TRAINED),
    "behaviour_curves": lambda r: training_figures.behaviour_curves(table(r, "grpo", "steps"), TRAINED),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("results")
    failed = [("grpo", "grpo_rich", 0), ("behaviour_evaluation", "grpo_rich", 0)]
    (root / "empty").mkdir()
    return {
        "one": write_results(root / "one", num_problems=8),
        "three": write_results(root / "three", seeds=(0, 1, 2), num_problems=8),
        "failed": write_results(root / "failed", failed=failed, num_problems=8),
        "empty": root / "empty",
    }


def overhang_in(fig: Figure) -> float:
    """How far, in inches, anything drawn reaches over the figure's edge."""
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    box = fig.get_tightbbox(canvas.get_renderer())
    return max(-box.x0, -box.y0, box.x1 - fig.get_figwidth(), box.y1 - fig.get_figheight())


@pytest.mark.parametrize("which", ["one", "three", "failed", "empty"])
@pytest.mark.parametrize("name", DRAWINGS)
def test_a_figure_is_drawn_whole_legible_and_phone_wide(
    name: str, which: str, folders: dict[str, Path]
) -> None:
    with style():
        fig = DRAWINGS[name](folders[which])
        assert overhang_in(fig) < 0.02
    assert fig.get_figwidth() == WIDTH_IN
    assert min(text.get_fontsize() for text in fig.findobj(Text) if text.get_text().strip()) >= SMALLEST_PT
    assert fig.get_facecolor()[:3] == (1.0, 1.0, 1.0)


def test_a_figure_of_nothing_says_so(folders: dict[str, Path]) -> None:
    for name in ("loss_curves", "bar_values", "search_rates", "pass_at_k_curves", "rewards"):
        assert any("No complete" in text.get_text() for text in DRAWINGS[name](folders["empty"]).texts), name


def test_a_failed_arm_stays_in_the_figure_as_missing(folders: dict[str, Path]) -> None:
    (axes,) = DRAWINGS["before_and_after"](folders["failed"]).axes
    shown = [text.get_text() for text in axes.texts]
    assert shown.count("not run, or failed") == 1 and arm_label("grpo_rich") in shown


def test_the_same_table_gives_the_same_file(folders: dict[str, Path], tmp_path: Path) -> None:
    for copy in ("a", "b"):
        save_figure(DRAWINGS["rewards"](folders["one"]), tmp_path / copy, "rewards")
    first, second = ((tmp_path / copy / "figures" / "rewards.svg").read_bytes() for copy in ("a", "b"))
    assert first == second
    assert re.search(rb"fill: ?#ffffff", first), "the background is solid"


def curves_of(values: dict[int, list[float]], column: str = "frac_searches", **options: bool) -> Axes:
    """One panel with a column of one arm, a list of values a seed."""
    rows = [
        (seed, step, value) for seed, found in values.items() for step, value in enumerate(found, start=1)
    ]
    steps = pd.DataFrame(rows, columns=["seed", "step", column]).assign(arm="grpo_rich")
    (axes,) = training_figures.curves(steps, ["grpo_rich"], [(column, "t")], **options).axes
    return axes


def test_a_band_is_students_interval_stays_in_a_shares_range_and_is_left_out_of_thin_steps() -> None:
    (band,) = curves_of({0: [0.2] * 6, 1: [0.4] * 6, 2: [0.6] * 6}).collections
    heights = band.get_paths()[0].vertices[:, 1]
    half = stats.t.ppf(0.975, 2) * 0.2 / np.sqrt(3)
    assert (heights.min(), heights.max()) == pytest.approx((max(0, 0.4 - half), 0.4 + half))
    (band,) = curves_of({0: [0.0] * 6, 1: [0.5] * 6, 2: [1.0] * 6}).collections
    assert band.get_paths()[0].vertices[:, 1].max() == 1.0, "a share is at most one"
    missing = float("nan")
    axes = curves_of({0: [0.9] * 6, 1: [0.1] * 6, 2: [missing] * 6}, "verdict_accuracy")
    assert not any(len(path.vertices) for band in axes.collections for path in band.get_paths())
    assert axes.get_ylim()[1] < 1.2
    assert not curves_of({0: [0.2] * 6, 1: [0.4] * 6}).collections, "two seeds have lines"
    apart = curves_of({seed: [float(seed)] * 6 for seed in (0, 1, 2, 3)}, each_seed=True)
    assert not apart.collections and len(apart.lines) == 5


@pytest.mark.parametrize("top", [0.0, 0.03, 0.09, 0.4, 1.0])
def test_ticks_of_shares_are_what_they_say(top: float) -> None:
    axes = curves_of({0: [0.0, top, top]}, "hit_rate")
    axes.figure.draw_without_rendering()
    low, high = axes.get_ylim()
    ticks = [tick for tick in axes.get_yticks() if low <= tick <= high]
    assert len(ticks) >= 2
    said = [float(axes.yaxis.get_major_formatter()(tick).rstrip("%")) / 100 for tick in ticks]
    assert said == pytest.approx(ticks)


def test_the_note_on_bands_speaks_of_every_arm() -> None:
    rows = [("a", seed) for seed in range(5)] + [("b", seed) for seed in range(2)] + [("c", 0)]
    steps = pd.DataFrame(rows, columns=["arm", "seed"])
    assert training_figures.band_note(steps, ["a"]) == "bands: 95 % intervals over seeds"
    assert training_figures.band_note(steps, ["b"]) == "thin lines: seeds"
    note = training_figures.band_note(steps, ["a", "b", "c"])
    assert note == "lines of one seed; thin lines: seeds; bands: 95 % intervals over seeds"
    assert training_figures.band_note(steps, []) == "no complete run"


def test_every_axis_of_values_is_named(folders: dict[str, Path]) -> None:
    for name, draw in DRAWINGS.items():
        fig = draw(folders["one"])
        assert fig.axes[-1].get_xlabel(), name
        assert all(
            axes.get_ylabel() or axes.get_title("left") or not len(axes.get_yticks()) for axes in fig.axes
        ), name


def test_an_arm_after_rl_starts_where_its_own_base_was_evaluated() -> None:
    evaluated = [
        "base_rich",
        "base_rich_qwen2",
        "grpo_rich_masked",
        "grpo_rich_qwen2",
        "grpo_absent",
        "grpo_sft_direct",
    ]
    assert arms.before_and_after_arms(evaluated) == [
        ("base_rich", "grpo_rich"),
        ("base_rich_qwen2", "grpo_rich_qwen2"),
        ("base_rich", "grpo_rich_masked"),
        ("base_absent", "grpo_absent"),
        ("sft_direct", "grpo_sft_direct"),
    ]


def test_a_model_keeps_its_looks_before_and_after_rl() -> None:
    for before, after in PAIRS:
        assert arm_style(before) == arm_style(after) and arm_label(before) == arm_label(after)
    looks = [arm_style(arm) for arm in BEFORE]
    assert len({look.colour for look in looks}) == len({look.marker for look in looks}) == len(looks)


def test_an_axis_of_shares_ends_where_shares_do() -> None:
    """Two seeds far apart have an interval that is wider than all shares there are."""
    values = {"base_rich": (0.1, 0.3), "grpo_rich": (0.2, 0.9)}
    summary = pd.DataFrame(
        [
            {"arm": arm, "seed": seed, "measure": "pass@1", "value": value, "lower": 0.0, "upper": 1.0}
            for arm, own in values.items()
            for seed, value in enumerate(own)
        ]
    )
    (axes,) = figures.before_and_after(summary, [("base_rich", "grpo_rich")], "pass@1", "solved").axes
    left, right = axes.get_xlim()
    assert -0.05 < left < 0 and 0.9 < right <= 1.02
