"""From tables to pages: numbers as ready-made strings, glue, figure and table files, provenance.

A chapter writes into its `output_dir`: `figures/<key>.svg`, which pages include with `{figure}`, and
`tables/<key>.csv`, which they offer for download. Numbers reach the prose as strings through `glue_text`, under
the same kind of key. All HTML is written here and in `highlighting`, and everything in it is escaped.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
from IPython.display import HTML, display
from matplotlib.figure import Figure

from extrabitter.runs import Run, find_runs, find_statuses
from extrabitter.estimates import Estimate
from extrabitter.pages.plots import arm_label, style
from extrabitter.digests import git_state
from extrabitter.provenance_tables import (
    commit_text,
    memory,
    page_markup,
    processor,
    runs_markup,
    wall_time,
)

GLUE_PREFIX = "application/papermill.record/"  # as myst_nb.glue(..., display=False) stores it
NOT_MEASURED = "not measured"
CLAIM_SEEDS = 5  # fewer seeds are called exploratory

_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def number_word(count: int) -> str:
    """Write a count as a word where it has a short one: "two", "12"."""
    return _WORDS[count] if count < len(_WORDS) else str(count)


def spell(count: int, noun: str) -> str:
    """Count things in words: `spell(1, "seed")` is "one seed", `spell(12, "run")` is "12 runs"."""
    return f"{number_word(count)} {noun}" if count == 1 else f"{number_word(count)} {noun}s"


def decimal(value: float, digits: int = 2) -> str:
    """Write a number with a true minus sign; "not measured" where it is missing.

    >>> decimal(-1.234), decimal(float("nan"))
    ('−1.23', 'not measured')
    """
    if not math.isfinite(value):
        return NOT_MEASURED
    return f"{value:.{digits}f}".replace("-", "−") if round(value, digits) else f"{0:.{digits}f}"


def percent(value: float, digits: int = 1) -> str:
    """Write a share as a percentage.

    >>> percent(0.6349), percent(0.0)
    ('63.5 %', '0.0 %')
    """
    return f"{decimal(100 * value, digits)} %" if math.isfinite(value) else NOT_MEASURED


def points(value: float, digits: int = 1) -> str:
    """Write a difference of shares in percentage points, always with its sign.

    >>> points(0.153), points(-0.02)
    ('+15.3 points', '−2.0 points')
    """
    if not math.isfinite(value):
        return NOT_MEASURED
    return f"{'+' if round(100 * value, digits) > 0 else ''}{decimal(100 * value, digits)} points"


def percent_interval(estimate: Estimate) -> str:
    """Write a share with its 95 % interval, cut at the ends of what a share can be: "63.5 % (60.1 to 66.8)"."""
    possible = replace(estimate, lower=max(estimate.lower, 0.0), upper=min(estimate.upper, 1.0))
    return _with_interval(possible, percent(estimate.value), 100, 1)


def points_interval(estimate: Estimate) -> str:
    """Write a difference of shares with its 95 % interval: "+15.3 points (12.0 to 18.1)"."""
    return _with_interval(estimate, points(estimate.value), 100, 1)


def decimal_interval(estimate: Estimate, digits: int = 2) -> str:
    """Write a number with its 95 % interval: "2.31 (2.20 to 2.42)"."""
    return _with_interval(estimate, decimal(estimate.value, digits), 1, digits)


def _with_interval(estimate: Estimate, value: str, factor: float, digits: int) -> str:
    if not estimate.measured:
        return NOT_MEASURED
    if math.isnan(estimate.lower) or math.isnan(estimate.upper):
        return value
    lower, upper = (decimal(factor * end, digits) for end in (estimate.lower, estimate.upper))
    if math.isinf(estimate.upper):
        return f"{value} (at least {lower})" if math.isfinite(estimate.lower) else value
    return f"{value} ({lower} to {upper})"


def basis(num_seeds: int) -> str:
    """Say what an interval is over, and whether it may carry a claim."""
    if num_seeds == 0:
        return "no complete run"
    if num_seeds == 1:
        return "exploratory, one seed; 95 % interval over problems"
    prefix = "exploratory, " if num_seeds < CLAIM_SEEDS else ""
    return f"{prefix}{spell(num_seeds, 'seed')}; 95 % interval over seeds"


def spell_seeds(table: pd.DataFrame) -> str:
    """Count the seeds behind each arm of a table with columns `arm` and `seed`.

    >>> spell_seeds(pd.DataFrame({"arm": ["rich"] * 3 + ["absent"], "seed": [0, 1, 2, 0]}))
    'one to three seeds'
    """
    fewest, most = _fewest_and_most_seeds(table)
    return spell(most, "seed") if fewest == most else f"{number_word(fewest)} to {spell(most, 'seed')}"


def basis_of(table: pd.DataFrame) -> str:
    """Say the same as `basis` of a figure whose arms, in columns `arm` and `seed`, can differ in their seeds.

    Of a collected `summary` it also says how many completions stand behind one arm and seed.
    """
    fewest, most = _fewest_and_most_seeds(table)
    counted = _completions_each(table)
    if fewest == most:
        return basis(most) + counted
    caution = f", exploratory below {number_word(CLAIM_SEEDS)}" if fewest < CLAIM_SEEDS else ""
    alone = "; over problems where there is one seed" if fewest == 1 else ""
    return f"{spell_seeds(table)} an arm{caution}; 95 % interval over seeds{alone}{counted}"


def _completions_each(table: pd.DataFrame) -> str:
    if not {"measure", "count"} <= set(table.columns):
        return ""
    counts = table.loc[table["measure"] == "pass@1", "count"]
    if counts.empty:
        return ""
    low, high = int(counts.min()), int(counts.max())
    number = f"{high:,}" if low == high else f"{low:,} to {high:,}"
    return f"; {number} completions an arm and seed"


def _fewest_and_most_seeds(table: pd.DataFrame) -> tuple[int, int]:
    counts = table.groupby("arm")["seed"].nunique()
    return (int(counts.min()), int(counts.max())) if len(counts) else (0, 0)


def glue_text(key: str, text: str) -> None:
    """Store a string under a key, for `{glue:text}` on this page and, as `page.ipynb::key`, on others.

    The same as `myst_nb.glue(key, text, display=False)`, without importing a documentation tool here.
    """
    display(
        {GLUE_PREFIX + "text/plain": repr(text)},
        raw=True,
        metadata={"scrapbook": {"name": key, "mime_prefix": GLUE_PREFIX}},
    )


def save_figure(fig: Figure, output_dir: str | Path, key: str) -> None:
    """Write `figures/<key>.svg` on a solid background, the same bytes for the same figure."""
    path = Path(output_dir) / "figures" / f"{key}.svg"
    path.parent.mkdir(parents=True, exist_ok=True)
    with style():
        fig.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def save_table(df: pd.DataFrame, output_dir: str | Path, key: str) -> None:
    """Write `tables/<key>.csv`, the numbers behind a figure or a sentence."""
    path = Path(output_dir) / "tables" / f"{key}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    df.to_csv(path, index=False)


def table_html(df: pd.DataFrame, caption: str = "") -> HTML:
    """Show a table of ready-made strings, each escaped; a cell may have lines, a wide table scrolls in its frame."""
    head = "".join(f'<th scope="col">{html.escape(str(name))}</th>' for name in df.columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{_lines(cell)}</td>" for cell in row) + "</tr>"
        for row in df.itertuples(index=False)
    )
    body = body or f'<tr><td colspan="{len(df.columns)}">no rows</td></tr>'
    title = f"<caption>{html.escape(caption)}</caption>" if caption else ""
    label = html.escape(caption or ", ".join(map(str, df.columns)))
    return inert(
        f'<div class="eb-scroll" tabindex="0" role="region" aria-label="{label}"><table class="eb-table">{title}'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _lines(cell: object) -> str:
    return "<br>".join(html.escape(line) for line in str(cell).split("\n"))


def inert(markup: str) -> HTML:
    """Wrap our own markup so that MathJax leaves what it quotes alone."""
    return HTML(f'<div class="tex2jax_ignore mathjax_ignore">{markup}</div>')


def failed_jobs(results_dir: str | Path, stages: Sequence[str] | None = None) -> pd.DataFrame:
    """List the jobs that ended without a run: stage, arm, seed, reason."""
    rows = [
        (stage, arm, seed, status.reason)
        for stage, arm, seed, status in find_statuses(results_dir)
        if status.state == "failed" and (stages is None or stage in stages)
    ]
    return pd.DataFrame(rows, columns=["stage", "arm", "seed", "reason"])


def failures_html(results_dir: str | Path, stages: Sequence[str] | None = None) -> HTML:
    """Show which arms failed and why; empty when none did."""
    failed = failed_jobs(results_dir, stages)
    items = "".join(
        f"<li><strong>{html.escape(str(row.arm))}</strong> ({html.escape(str(row.stage))}, seed {row.seed}): "
        f"{html.escape(str(row.reason))}</li>"
        for row in failed.itertuples()
    )
    if not items:
        return HTML("")
    return inert(
        f'<div class="eb-failed" role="note"><p>Failed, and therefore missing on this page:</p>'
        f"<ul>{items}</ul></div>"
    )


def missed_bars_html(bars: pd.DataFrame, counted: str = "seed") -> HTML:
    """Show the rows of table `bars` that were not passed; `counted` is what the page calls the number of a run."""
    missed = bars[~bars["passed"].astype(bool)]
    rows = [
        {
            "base": f"{arm_label(row['arm'])}, {counted} {row['seed']}",
            "bar": row["bar"],
            "measured": bar_number(row["value"]),
            "asked for": f"{row['direction']} {bar_number(row['threshold'])}",
        }
        for row in missed.to_dict("records")
    ]
    return table_html(pd.DataFrame(rows, columns=["base", "bar", "measured", "asked for"]), "Bars missed")


def bar_number(value: float) -> str:
    """Write a bar's value or threshold, in powers of ten where three digits would show nought.

    >>> bar_number(0.98), bar_number(1e-5)
    ('0.980', '1.0e-05')
    """
    return f"{value:.1e}" if 0 < value < 0.001 else decimal(value, 3)


def provenance_table(runs: Iterable[Run]) -> pd.DataFrame:
    """Describe where runs come from, one row a run, as strings."""
    return pd.DataFrame(
        [
            {
                "stage": run.stage,
                "arm": run.arm,
                "seed": str(run.seed),
                "commit": commit_text(run.manifest),
                "code": str(run.manifest.get("code_sha256", ""))[:10],
                "processor": processor(run.manifest),
                "threads": str(run.manifest.get("threads", "")),
                "wall time": wall_time(run.manifest.get("wall_s")),
                "peak memory": memory(run.manifest.get("peak_rss_mb")),
            }
            for run in runs
        ],
        columns=[
            "stage",
            "arm",
            "seed",
            "commit",
            "code",
            "processor",
            "threads",
            "wall time",
            "peak memory",
        ],
    )


def provenance_html(
    results_dir: str | Path, profile: str, stages: Sequence[str], have_pages: bool = True
) -> HTML:
    """Show a page's provenance: one line to read; to unfold, the arms behind it, and the commands that make it again.

    Without stages the page reads no run: then the line says that it was computed as it was made. Runs that are not of
    the book's own profile have no pages to be sent to.
    """
    state = git_state()
    if not stages:
        line = f"No run stands behind this page; the code of commit {commit_text(state)} computed it as it was made."
        return inert(
            f'<details class="eb-provenance"><summary>{html.escape(line)}</summary>{page_markup(state)}</details>'
        )
    runs = [run for run in find_runs(results_dir) if run.stage in stages]
    seeds = len({run.seed for run in runs})
    commits = sorted({commit_text(run.manifest) for run in runs})
    line = (
        f"Numbers from {spell(len(runs), 'run')} over {spell(seeds, 'seed')} of profile "
        f"<strong>{html.escape(profile)}</strong>"
        + (f", commit {html.escape(', '.join(commits))}" if commits else "")
        + "."
    )
    table = runs_markup(runs, have_pages) if runs else ""
    if runs and have_pages:
        table += (
            "<p>Every parameter with its meaning, the executed notebook and the command that makes it again: on "
            '<a href="runs.html">the page of each run</a>.</p>'
        )
    return inert(
        f'<details class="eb-provenance"><summary>{line}</summary>{page_markup(state)}{table}</details>'
        + failures_html(results_dir, stages).data
    )
