"""Where a page's numbers come from, one row an arm: seeds, commits, parameters, hashes, times, memory, and commands.

Markup only: `reporting.provenance_html` puts it below a page. Manifests are hostile input: every value is escaped, and
what an old one lacks is called not recorded.
"""

from __future__ import annotations

import html
import math
import os
import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, TypeGuard
from urllib.parse import quote

from extrabitter import provenance
from extrabitter.artifacts import Run, status_path
from extrabitter.config import STAGES
from extrabitter.fingerprints import model_sha256, recorded_result_sha256

# Set by whoever runs a chapter, for a notebook does not know its own name; page_footers.COMMANDS is the same.
COMMANDS = "EXTRABITTER_PAGE_COMMANDS"
NOT_RECORDED = "not recorded"

_MOST_LISTED = 5  # different values of an arm's seeds; more are counted
_MOST_CHARACTERS = 120  # of a parameter's value
_SHORT = 8  # characters of a hash; a run's own page has more
# Parameters that the row says already.
_SAID_ELSEWHERE = {"run_dir", "arm", "seed"}
_MADE_BY = re.compile(r"(?:runs|results)/[^/]+/(\w+/\w+)/seed=(\d+)/checkpoint(-\d+)?")


def runs_markup(runs: Sequence[Run], have_pages: bool) -> str:
    """Write what all runs share, then a table with a row for each arm; with `have_pages`, linked to the runs' pages."""
    hashes = {run.path: recorded_result_sha256(run) for run in runs}
    machines = [_machine(run.manifest) for run in runs]
    shared = [
        ("machine", _counted(machines)),
        ("threads of a run", _counted([str(run.manifest.get("threads", NOT_RECORDED)) for run in runs])),
        ("versions", _versions([run.manifest.get("packages") for run in runs])),
    ]
    several = len(set(machines)) > 1
    parts = []
    for stage, grouped in groupby(runs, key=lambda run: run.stage):
        of_stage = list(grouped)
        title = html.escape(stage.replace("_", " "))
        if have_pages and any(_ended(run) for run in of_stage):
            title = f'<a href="run_pages/{quote(stage, safe="")}.html">{title}</a>'
        rows = [
            _row(list(of_arm), hashes, have_pages, several)
            for _, of_arm in groupby(of_stage, key=lambda run: run.arm)
        ]
        head = f'<tr><th colspan="2" scope="rowgroup">{title}</th></tr>'
        parts.append(f"<tbody>{head}{''.join(rows)}</tbody>")
    return (
        f"<p>The runs:</p>{_lines(shared)}"
        '<table class="eb-table eb-origins"><caption>Per arm: parameters where they differ from the stage’s '
        "defaults; hashes in the order of the seeds, shortened</caption>"
        '<thead><tr><th scope="col">arm, seeds</th><th scope="col">where its numbers come from</th></tr></thead>'
        f"{''.join(parts)}</table>"
    )


def page_markup(state: Mapping[str, Any]) -> str:
    """Write what made the page itself: commit, machine and versions of this process, and the commands for it again."""
    made = [
        ("commit", html.escape(commit_text(state))),
        ("machine", html.escape(_machine({"machine": provenance.machine()}))),
        ("versions", _versions([provenance.package_versions()])),
    ]
    commands = os.environ.get(COMMANDS, "").strip()
    again = (
        f'<p>This page again:</p><pre class="eb-again">{html.escape(commands)}</pre>'
        if commands
        else "<p>This copy was not made by <code>extrabitter run-chapter</code>, which names here the commands that "
        "make it again.</p>"
    )
    return f"<p>The page itself:</p>{_lines(made)}{again}"


def commit_text(state: Mapping[str, Any]) -> str:
    """Shorten a commit, and say whether the working copy had changes of its own."""
    return str(state.get("commit", "unknown"))[:10] + ("-dirty" if state.get("dirty") else "")


def processor(manifest: Mapping[str, Any]) -> str:
    """Name the GPU of a run, or else its processor."""
    machine = _mapping(manifest.get("machine"))
    return str(machine.get("gpu") or machine.get("cpu") or "unknown")


def wall_time(value: object) -> str:
    """Write a time in seconds.

    >>> wall_time(90.0), wall_time(300), wall_time(9000), wall_time(None)
    ('90 s', '5.0 min', '2.5 h', 'not recorded')
    """
    if not _is_number(value):
        return NOT_RECORDED
    if value < 120:
        return f"{value:.0f} s"
    return f"{value / 60:.1f} min" if value < 7200 else f"{value / 3600:.1f} h"


def memory(value: object) -> str:
    """Write an amount of memory in megabytes."""
    return f"{value:.0f} MB" if _is_number(value) else NOT_RECORDED


def by_seed(values: Sequence[str], seeds: Sequence[int]) -> str:
    """Write a value that the seeds share, or each with its seeds, or how many there are.

    >>> by_seed(["a", "a"], [3, 4]), by_seed(["a", "b", "a"], [3, 4, 5])
    ('a', 'a (seeds 3, 5), b (seed 4)')
    >>> by_seed(list("abcdef"), list(range(6)))
    '6 different values'
    """
    found: dict[str, list[int]] = {}
    for value, seed in zip(values, seeds, strict=True):
        found.setdefault(value, []).append(seed)
    if len(found) == 1:
        return values[0]
    if len(found) > _MOST_LISTED:
        return f"{len(found)} different values"
    return ", ".join(
        f"{value} (seed{'s' * (len(own) > 1)} {', '.join(map(str, own))})" for value, own in found.items()
    )


def _row(runs: list[Run], hashes: Mapping[Any, str], have_pages: bool, several_machines: bool) -> str:
    manifests, seeds = [run.manifest for run in runs], [run.seed for run in runs]
    links = ", ".join(_seed(run, have_pages) for run in runs)
    facts = [
        ("parameters", _parameters(runs)),
        ("commit", by_seed([commit_text(manifest) for manifest in manifests], seeds)),
        ("code", by_seed([_short(manifest.get("code_sha256")) for manifest in manifests], seeds)),
    ]
    if several_machines:
        facts.append(("machine", by_seed([_machine(manifest) for manifest in manifests], seeds)))
    for name, found in (
        ("weights read", [manifest.get("input_sha256") for manifest in manifests]),
        ("weights made", [model_sha256(manifest) for manifest in manifests]),
    ):
        if any(found):
            facts.append((name, _in_order([_short(sha) for sha in found])))
        elif name == "weights made" and runs[0].stage in ("base_model", "sft_priming", "grpo"):
            facts.append((name, NOT_RECORDED))
    facts += [
        ("results", _in_order([_short(hashes[run.path]) for run in runs])),
        (
            "wall time",
            f"{_times([manifest.get('wall_s') for manifest in manifests])}; peak memory "
            + _peak([manifest.get("peak_rss_mb") for manifest in manifests]),
        ),
    ]
    name = f'{html.escape(runs[0].arm)}<span class="eb-seeds">seed{"s" * (len(runs) > 1)} {links}</span>'
    written = "<br>".join(f"<b>{label}</b> {html.escape(text)}" for label, text in facts)
    return f'<tr><th scope="row">{name}</th><td>{written}</td></tr>'


def _ended(run: Run) -> bool:
    """Whether a run's status is written; before that the book has no page of it."""
    return status_path(run.path).is_file()


def _seed(run: Run, have_pages: bool) -> str:
    if not have_pages or not _ended(run):
        return html.escape(str(run.seed))
    page = "/".join(quote(part, safe="") for part in (run.stage, f"{run.arm}-seed-{run.seed}.html"))
    return f'<a href="run_pages/{page}">{html.escape(str(run.seed))}</a>'


def _parameters(runs: list[Run]) -> str:
    """Write the parameters that differ from the defaults of the runs' stage in any of them."""
    fields = STAGES[runs[0].stage].model_fields
    given = [_mapping(run.manifest.get("parameters")) for run in runs]
    if not any(given):
        return NOT_RECORDED
    names = dict.fromkeys(name for values in given for name in values if name not in _SAID_ELSEWHERE)
    parts = []
    for name in names:
        default = fields[name].default if name in fields else None
        if any(name in values and values[name] != default for values in given):
            texts = [
                _value(values[name], run.seed) if name in values else NOT_RECORDED
                for values, run in zip(given, runs, strict=True)
            ]
            parts.append(f"{name} = {by_seed(texts, [run.seed for run in runs])}")
    return "; ".join(parts) or "the stage’s defaults"


def _value(value: object, seed: int) -> str:
    """Write a parameter's value; another run's checkpoint as profiles name it, where it is of the same seed."""
    text = str(value)
    made_by = _MADE_BY.fullmatch(text)
    if made_by and made_by[2] == str(seed):
        return made_by[1] + (f"/checkpoint{made_by[3]}" if made_by[3] else "")
    text = "".join(char if char.isprintable() else " " for char in text)
    return (text[:_MOST_CHARACTERS] + "…" if len(text) > _MOST_CHARACTERS else text) or "empty"


def _in_order(texts: list[str]) -> str:
    return texts[0] if len(set(texts)) == 1 else ", ".join(texts)


def _short(sha: object) -> str:
    return str(sha)[:_SHORT] if sha else NOT_RECORDED


def _times(values: list[object]) -> str:
    known = [value for value in values if _is_number(value)]
    if not known:
        return NOT_RECORDED
    low, high = wall_time(min(known)), wall_time(max(known))
    text = low if low == high else f"{low} to {high}"
    if len(known) > 1:
        text += f" each, {wall_time(sum(known))} in all"
    return text + f" ({len(values) - len(known)} {NOT_RECORDED})" * (len(known) < len(values))


def _peak(values: list[object]) -> str:
    known = [value for value in values if _is_number(value)]
    return memory(max(known)) if known else NOT_RECORDED


def _machine(manifest: Mapping[str, Any]) -> str:
    machine = _mapping(manifest.get("machine"))
    cores = machine.get("num_cores")
    parts = [
        processor(manifest),
        f"{cores} core{'s' * (cores != 1)}" if cores else "",
        str(machine.get("system") or ""),
    ]
    return ", ".join(filter(None, parts))


def _versions(found: Sequence[object]) -> str:
    """Write each package with the version that all runs share, or with each and its number of runs."""
    packages = [_mapping(values) for values in found]
    names = dict.fromkeys(name for values in packages for name in values)
    parts = [
        f"{html.escape(name)} {_counted([str(values.get(name, NOT_RECORDED)) for values in packages])}"
        for name in names
    ]
    return ", ".join(parts) or NOT_RECORDED


def _counted(texts: Sequence[str]) -> str:
    """Write the value that all runs share, or each with its number of runs, the most frequent first; escaped."""
    counts: dict[str, int] = {}
    for text in texts:
        counts[text] = counts.get(text, 0) + 1
    if len(counts) == 1:
        return html.escape(texts[0])
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    shown = [
        f"{html.escape(text)} ({count} run{'s' * (count > 1)})" for text, count in ordered[:_MOST_LISTED]
    ]
    left = len(ordered) - len(shown)
    return ", ".join(shown) + f", and {left} more" * (left > 0)


def _lines(facts: Sequence[tuple[str, str]]) -> str:
    return f'<p class="eb-origins">{"<br>".join(f"<b>{label}</b> {text}" for label, text in facts)}</p>'


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
