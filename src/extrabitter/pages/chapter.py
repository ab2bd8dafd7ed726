"""The kit of a chapter: tables, claims that stop the build, numbers for the prose, figures, and your run.

A chapter notebook has a parameters cell and is opened in two lines:

    results_dir: str = ""  # the store of results; empty: results/edition
    runs_dir: str = ""  # your own runs, e.g. runs/laptop; empty: none
    output_dir: str = "_build/chapters/published"  # where figures and tables go
    profile: str = ""  # name of the profile of your own runs

    from extrabitter.pages.chapter import Chapter
    page = Chapter("taste_test", results_dir, runs_dir, output_dir, profile)

Then, beside each sentence of the prose that says something, what it rests on, and the number that it shows:

    summary = page.table("summary")
    gap = of_difference(summary, "after_searcher", "after_guesser")
    page.claim(gap.lower > 0, "The base that searched solves more after the same RL", gap=gap)
    page.say({"gap": gap})                          # prose: a gap of {glue:text}`gap_pts_ci`

A figure stands where its cell stands (tag `remove-input` or `hide-input`), with its caption and one line that says
where its numbers come from. What `page.own(name)` returns, of your runs, is drawn on the same axes:

    rows = plots.rows_of(summary, MODELS, "pass@1", own=page.own("summary"))
    fig = plots.dot_rows(rows, "Searching pays", "unseen problems solved")
    page.figure("solved", fig, alt="...", caption="Unseen problems ...", table=summary)
    page.your_run("unseen problems solved", "pass@1", ["after_searcher", "after_guesser"])   # once a page

All HTML is written here and in `completions`, and everything in it that was read is escaped.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd
from IPython.display import HTML, display
from matplotlib.figure import Figure

from extrabitter import store
from extrabitter.digests import REPOSITORY, RESULTS
from extrabitter.pages import plots
from extrabitter.pages.text import decimal, percent, percent_interval, points, points_interval, render, spell
from extrabitter.statistics import Estimate, of_measure

GLUE_PREFIX = "application/papermill.record/"  # as myst_nb.glue(..., display=False) stores it
MAX_ROWS = 12  # of a table that stands open on a page
Write = Callable[[Estimate], str]  # an estimate as a ready-made string


class ClaimError(AssertionError):
    """A sentence of a page is not what the results say; the message names page, sentence and what was found."""


class Chapter:
    """One page in the making: what it reads, claims, shows and saves."""

    def __init__(
        self,
        name: str,
        results_dir: str | Path = "",
        runs_dir: str | Path = "",
        output_dir: str | Path = "_build/chapters/published",
        profile: str = "",
        task: str = "countdown",
    ) -> None:
        """Open the page `name`; FileNotFoundError where the store is absent, which each page reads."""
        self.name = name
        self.results_dir = _find_results(results_dir)
        self.runs_dir = Path(runs_dir) if str(runs_dir) else None
        self.output_dir = Path(output_dir)
        self.profile = profile
        self.task = task
        self._runs: dict[tuple[str, str | None], pd.DataFrame] = {}  # behind what was read so far

    def table(self, name: str, task: str = "", experiment: str | None = None) -> pd.DataFrame:
        """Read a published table; seed, experiment, stage and arm lead. Without `experiment`, of all there are."""
        task = task or self.task
        if (task, experiment) not in self._runs:
            self._runs[task, experiment] = store.read(self.results_dir, task, "runs", experiment)
        return store.read(self.results_dir, task, name, experiment)

    def own(self, name: str, task: str = "", experiment: str | None = None) -> pd.DataFrame:
        """Read the same table of your own runs; without rows where there are none."""
        return store.read(self.runs_dir or "", task or self.task, name, experiment)

    def claim(self, condition: bool, text: str, fact: bool = False, **found: object) -> None:
        """Stop the build unless what a sentence says is so; `text` is its gist, `found` the values it rests on.

        `fact` marks what no result decides, such as the size of a model: the test that turns effects off leaves it.
        """
        said = ", ".join(f"{name} = {_say(value)}" for name, value in found.items()) or "nothing"
        if not condition:
            raise ClaimError(f"page {self.name}: “{text}” is not what the results say; found: {said}")

    def glue(self, key: str, text: str) -> None:
        """Store a string under a key, for {glue:text}`key` here and, as `page.ipynb::key`, on other pages.

        The same as `myst_nb.glue(key, text, display=False)`, without importing a documentation tool here.
        """
        metadata = {"scrapbook": {"name": key, "mime_prefix": GLUE_PREFIX}}
        display({GLUE_PREFIX + "text/plain": repr(text)}, raw=True, metadata=metadata)

    def say(self, found: Mapping[str, Estimate]) -> None:
        """Glue each estimate four ways: as a share under its name and with _ci, as points with _pts and _pts_ci."""
        for name, estimate in found.items():
            self.glue(name, percent(estimate.value))
            self.glue(f"{name}_ci", percent_interval(estimate))
            self.glue(f"{name}_pts", points(estimate.value))
            self.glue(f"{name}_pts_ci", points_interval(estimate))

    def figure(self, key: str, fig: Figure, alt: str, caption: str = "", table: plots.Table = None) -> None:
        """Show a figure here and save it as figures/<key>.svg; `alt` says its message, `table` is offered as CSV."""
        svg = plots.to_svg(fig)
        self._saved(f"figures/{key}.svg").write_text(svg, encoding="utf-8")
        below = f"<p>{html.escape(caption)}</p>" * bool(caption) + self._provenance(key, table)
        drawn = f'<figure class="eb-figure" id="fig-{key}">{plots.inline(svg, key, alt)}'
        display(inert(f"{drawn}<figcaption>{below}</figcaption></figure>"))

    def show(self, df: pd.DataFrame, caption: str, key: str = "") -> None:
        """Show a table of ready-made strings; one of more than MAX_ROWS is folded. With `key` it is offered as CSV."""
        display(inert(table_markup(df, caption, MAX_ROWS) + (self._provenance(key, df) if key else "")))

    def provenance(self) -> None:
        """Show in one line which runs the page's numbers come from; figures have the line below them by themselves."""
        display(inert(self._provenance()))

    def your_run(self, what: str, measure: str, arms: Sequence[str], write: Write = percent_interval) -> None:
        """Show, in one box a page, a measure of your own runs beside the published one; nothing without own runs."""
        if self.runs_dir is None:
            return
        runs, tables = self.own("runs"), (self.own("summary"), self.table("summary"))
        found = [(plots.words(arm), *(of_measure(table, arm, measure) for table in tables)) for arm in arms]
        failed = runs[runs["state"] == "failed"].to_dict("records")
        said = {"profile": self.profile, "what": what, "write": write, "spell": spell}
        display(inert(render("yours.html", found=found, failed=failed, **said)))

    def _saved(self, name: str) -> Path:
        path = self.output_dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _provenance(self, key: str = "", table: plots.Table = None) -> str:
        """Return the line that says which seeds and commits stand behind what was read so far, and save the table."""
        seeds, commits = "", list[str]()
        if self._runs and len(runs := pd.concat(self._runs.values())):
            seeds = spell(runs["seed"].nunique(), "seed")
            commits = sorted({str(commit)[:7] for commit in runs["commit"] if commit})
        if table is not None:
            table.to_csv(self._saved(f"tables/{key}.csv"), index=False)
        return render("provenance.html", seeds=seeds, commits=commits, key=key if table is not None else "")


def inert(markup: str) -> HTML:
    """Wrap our own markup so that MathJax leaves what it quotes alone."""
    return HTML(f'<div class="tex2jax_ignore mathjax_ignore">{markup}</div>')


def table_markup(df: pd.DataFrame, caption: str, most: int = 10**9) -> str:
    """Return a table of ready-made strings as HTML, each escaped; one of over `most` rows is folded."""
    rows = [tuple(row) for row in df.itertuples(index=False)]
    return render("table.html", columns=df.columns, rows=rows, caption=caption, most=most)


def _find_results(given: str | Path) -> Path:
    """Return the folder of results: as given, else the edition's; here, or below the repository."""
    for folder in (root / (given or RESULTS) for root in (Path(), REPOSITORY)):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"results_dir = {str(given)!r}: no such folder; `extrabitter publish` makes one")


def _say(value: object) -> str:
    """Write what a claim rests on, for the message that stops a build."""
    if isinstance(value, Estimate):
        return f"{decimal(value.value, 4)} ({decimal(value.lower, 4)} to {decimal(value.upper, 4)})"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
