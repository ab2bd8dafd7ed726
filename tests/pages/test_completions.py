"""The completions browser: what it draws is recorded and bounded, what it shows is inert, and keys suffice."""

from __future__ import annotations

import html
import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from chromium import Page
from extrabitter import runs as artifacts
from extrabitter.pages import completions as completions_browser
from extrabitter import digests as provenance
from extrabitter import tables as records
from extrabitter.pages.completions import (
    STAGE,
    browser_html,
    collect,
    list_evaluated,
    on_the_way,
    pairs_of,
    save_script,
    script,
)
from extrabitter.digests import REPOSITORY
from page_checks import findings, reported
from synthetic_results import MODELS, PRIMED, write_results, write_run
from test_book_safety import HOSTILE

NUM_PROBLEMS, NUM_SAMPLES = 6, 5


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("results")
    return write_results(root, seeds=(0, 1), num_problems=NUM_PROBLEMS, num_samples=NUM_SAMPLES)


@pytest.fixture(scope="module")
def hostile_results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results whose every completion and prompt is hostile, one of HOSTILE after the other."""
    root = write_results(tmp_path_factory.mktemp("hostile"), num_problems=4, num_samples=4)
    for run in artifacts.find_runs(root, "behaviour_evaluation"):
        table = run.table("completions")
        table["completion"] = [HOSTILE[index % len(HOSTILE)] for index in range(len(table))]
        table["prompt"] = table["completion"]
        table["reason"] = "<script>window.hacked = true</script>"
        path = records.write_table(run.path / "completions.parquet", "completions", table)
        manifest = run.manifest
        manifest["files"]["completions.parquet"] = provenance.file_sha256(path)
        artifacts.write_json(run.path / artifacts.MANIFEST, manifest)
    return root


def page_of(results: Path, folder: Path) -> str:
    """Write a page with the browser and nothing else; return its address."""
    data = collect(results)
    save_script(data, folder)
    shutil.copytree(REPOSITORY / "book" / "_extra", folder / "_extra", dirs_exist_ok=True)
    (folder / "_extra" / "page.html").write_text(
        '<!doctype html><html lang="en-GB"><head><meta charset="utf-8"><title>t</title>'
        '<meta name="viewport" content="width=device-width">'
        "<style>html[data-theme=dark] { background: #111; color: #ddd; } html[data-theme=dark] a { color: #6cf; }"
        f"{(REPOSITORY / 'book/_static/book.css').read_text(encoding='utf-8')}</style></head>"
        f"<body><main><h1>Completions</h1>{browser_html(data).data}</main></body></html>",
        encoding="utf-8",
    )
    return (folder / "_extra" / "page.html").as_uri()


def test_every_model_is_paired_with_where_its_training_began(results: Path) -> None:
    evaluated = list_evaluated(results)
    pairs = pairs_of(evaluated, results)
    assert len(pairs) == 2 * len(MODELS)
    for _, before, after in pairs:
        assert evaluated[before].label == "before RL" and evaluated[after].label == "after 40 steps of RL"
        name = evaluated[after].run.arm.removeprefix("grpo_")
        assert evaluated[before].run.arm == (name if name in PRIMED else f"base_{name}")
    assert evaluated[pairs[0][1]].run.arm == "base_rich"


def test_a_variant_of_rl_is_paired_with_the_checkpoint_it_was_given(tmp_path: Path) -> None:
    write_results(tmp_path, num_problems=2)
    for stage in ("grpo", "behaviour_evaluation"):
        source, target = (tmp_path / stage / arm / "seed=0" for arm in ("grpo_rich", "grpo_rich_masked"))
        shutil.copytree(source, target)
        manifest = json.loads((target / artifacts.MANIFEST).read_text(encoding="utf-8"))
        manifest["arm"] = "grpo_rich_masked"
        if stage == "behaviour_evaluation":
            manifest["parameters"] |= {
                "checkpoint": "runs/x/grpo/grpo_rich_masked/seed=0/checkpoint-20",
                "masked_words": "back",
            }
        artifacts.write_json(target / artifacts.MANIFEST, manifest)
    evaluated = list_evaluated(tmp_path)
    pairs = {
        label: (evaluated[before], evaluated[after]) for label, before, after in pairs_of(evaluated, tmp_path)
    }
    before, after = pairs["rich, search words masked"]
    assert before.run.arm == "base_rich"
    assert after.label == "after 20 steps of RL, “back” masked"


def test_a_checkpoint_on_the_way_can_be_picked_between_the_two_ends(results: Path, tmp_path: Path) -> None:
    assert "No checkpoint between" in on_the_way(list_evaluated(results), results)
    shutil.copytree(results, tmp_path, dirs_exist_ok=True)
    stage = tmp_path / "behaviour_evaluation"
    target = stage / "step_20_grpo_rich" / "seed=0"
    shutil.copytree(stage / "grpo_rich" / "seed=0", target)
    manifest = json.loads((target / artifacts.MANIFEST).read_text(encoding="utf-8"))
    manifest["arm"] = "step_20_grpo_rich"
    manifest["parameters"]["checkpoint"] = "runs/x/grpo/grpo_rich/seed=0/checkpoint-20"
    artifacts.write_json(target / artifacts.MANIFEST, manifest)
    evaluated = list_evaluated(tmp_path)
    own = [one.label for one in evaluated if (one.run.seed, one.model) == (0, "rich")]
    assert own == ["before RL", "after 20 steps of RL", "after 40 steps of RL"]
    assert "picked for rich: sometimes searches, after 20 steps, where" in on_the_way(evaluated, tmp_path)
    ends = {label: (evaluated[a].step, evaluated[b].step) for label, a, b in pairs_of(evaluated, tmp_path)}
    assert ends["rich: sometimes searches"] == (0, 40)


def test_rare_problems_are_a_pair_of_their_own_and_the_larger_evaluation_is_shown(
    results: Path, tmp_path: Path
) -> None:
    shutil.copytree(results, tmp_path, dirs_exist_ok=True)
    stage = tmp_path / "behaviour_evaluation"
    for arm in ("base_rich", "grpo_rich"):
        source = next(
            run for run in artifacts.find_runs(tmp_path) if (run.arm, run.seed, run.stage) == (arm, 0, STAGE)
        )
        for prefix, given in (("rare", {"solutions": "rare"}), ("common", {"num_problems": 1})):
            target = stage / f"{prefix}_{arm}" / "seed=0"
            shutil.copytree(source.path, target)
            table = source.table("completions")
            table["problem"] = f"{prefix} " + table["problem"]
            path = records.write_table(target / "completions.parquet", "completions", table)
            manifest = json.loads((target / artifacts.MANIFEST).read_text(encoding="utf-8"))
            manifest["arm"] = f"{prefix}_{arm}"
            manifest["parameters"] |= given
            manifest["files"][path.name] = provenance.file_sha256(path)
            artifacts.write_json(target / artifacts.MANIFEST, manifest)
    evaluated = list_evaluated(tmp_path)
    assert not any(one.run.arm.startswith("common_") for one in evaluated)
    pairs = {(label, evaluated[a].run.seed): (a, b) for label, a, b in pairs_of(evaluated, tmp_path)}
    named = [evaluated[index].run.arm for index in pairs["rich: sometimes searches, rare solutions", 0]]
    assert named == ["rare_base_rich", "rare_grpo_rich"]
    content = collect(tmp_path).content
    assert all(_has_a_problem(content, *pair) for pair in content["pairs"])


def _has_a_problem(content: dict[str, Any], label: str, seed: int, before: int, after: int) -> bool:
    return any(
        its_seed == seed and {str(before), str(after)} <= entry.keys()
        for (its_seed, _, _), entry in zip(content["problems"], content["completions"], strict=True)
    )


def test_every_model_of_the_published_results_has_a_problem_to_show() -> None:
    content = collect(REPOSITORY / "results" / "reference").content
    assert content["pairs"] and all(_has_a_problem(content, *pair) for pair in content["pairs"])


def test_what_is_drawn_is_counted_and_the_same_each_time(results: Path) -> None:
    data = collect(results)
    num_runs = 2 * 2 * len(MODELS)
    assert data.num_completions == num_runs * NUM_PROBLEMS * NUM_SAMPLES
    assert (data.num_problems_shown, data.num_problems) == (2 * NUM_PROBLEMS, 2 * NUM_PROBLEMS)
    assert (data.num_samples_shown, data.num_samples) == (completions_browser.MAX_SAMPLES, NUM_SAMPLES)
    shown = [samples for entry in data.content["completions"] for samples in entry.values()]
    assert data.num_shown == sum(map(len, shown)) == num_runs * NUM_PROBLEMS * completions_browser.MAX_SAMPLES
    assert script(collect(results).content) == script(data.content)


def test_the_draw_does_not_look_at_completions(results: Path, tmp_path: Path) -> None:
    other = shutil.copytree(results, tmp_path / "other")
    for run in artifacts.find_runs(other, "behaviour_evaluation"):
        table = run.table("completions")
        table["completion"], table["correct"] = "answer", ~table["correct"]
        path = records.write_table(run.path / "completions.parquet", "completions", table)
        run.manifest["files"]["completions.parquet"] = provenance.file_sha256(path)
        artifacts.write_json(run.path / artifacts.MANIFEST, run.manifest)
    assert collect(other).content["problems"] == collect(results).content["problems"]


def test_the_script_never_grows_beyond_its_bound(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = len(script(collect(results).content))
    bound = whole // 2
    monkeypatch.setattr(completions_browser, "MAX_SCRIPT_BYTES", bound)
    data = collect(results)
    assert bound / 2 < len(script(data.content)) <= bound
    assert 0 < data.num_problems_shown < data.num_problems
    monkeypatch.setattr(completions_browser, "MAX_PROBLEMS", 1)
    assert collect(results).num_problems_shown == 2, "one of each seed"


def test_evaluations_in_english_are_left_out(results: Path, tmp_path: Path) -> None:
    copy = tmp_path / "results"
    shutil.copytree(results, copy)
    summary = pd.DataFrame([{"measure": "pass@1", "value": 0.5, "lower": 0.4, "upper": 0.6, "count": 8}])
    write_run(copy, "behaviour_evaluation", "two_base", 0, {"summary": summary})
    assert script(collect(copy).content) == script(collect(results).content)


def test_a_book_without_evaluations_says_so(tmp_path: Path) -> None:
    data = collect(tmp_path)
    assert (data.num_shown, data.num_problems) == (0, 0)
    assert "No completions were evaluated." in browser_html(data).data


def test_the_script_holds_no_character_that_html_knows(hostile_results: Path, tmp_path: Path) -> None:
    text = save_script(collect(hostile_results), tmp_path).read_text(encoding="ascii")
    assert not set(text) & set("<>&")
    assert all(char.isprintable() for char in text.rstrip("\n"))
    content = json.loads(text.removeprefix("window.completionsBrowser = ").removesuffix(";\n"))
    shown = {
        " ".join(words for _, words in sample[3])
        for entry in content["completions"]
        for samples in entry.values()
        for sample in samples
    }
    assert "<script>alert(1)</script>" in shown and "{{ config }} {% raw %} {glue:text}`x`" in shown


@pytest.mark.browser
def test_hostile_completions_are_text_in_a_browser(
    hostile_results: Path, browser: Page, tmp_path: Path
) -> None:
    browser.open(page_of(hostile_results, tmp_path))
    seen = set()
    count = browser.evaluate("document.querySelectorAll('#browser-problem option').length")
    for problem in range(count):
        for sample in range(4):
            browser.evaluate(
                f"for (const [name, index] of [['problem', {problem}], ['sample', {sample}]]) {{"
                "const select = document.getElementById(`browser-${name}`); select.selectedIndex = index;"
                "select.dispatchEvent(new Event('change', {bubbles: true})); }"
            )
            tags = browser.evaluate(
                "[...document.querySelectorAll('.eb-panes *')].map((node) => node.localName)"
            )
            assert set(tags) <= {"figure", "p", "span", "mark", "figcaption", "a"}
            texts = browser.evaluate(
                "[...document.querySelectorAll('.eb-text')].map((node) => node.textContent)"
            )
            seen |= set(texts)
    for text in HOSTILE[:9]:
        shown = " ".join(text.split())
        assert f"{shown} {shown}" in seen, text
    assert browser.evaluate("window.hacked") is None
    assert reported(browser) == []


def shown(browser: Page) -> tuple[str, str]:
    """Problem and sample that the browser shows."""
    return tuple(
        browser.evaluate(f"document.getElementById('browser-{name}').value") for name in ("problem", "sample")
    )


@pytest.mark.browser
def test_the_keyboard_suffices(results: Path, browser: Page, tmp_path: Path) -> None:
    browser.open(page_of(results, tmp_path))
    reached = []
    for _ in range(20):
        browser.press("Tab", 9)
        reached.append(browser.evaluate("document.activeElement.id || document.activeElement.className"))
        if reached[-1] == "eb-panes":
            break
    assert [name for name in reached if name.startswith("browser-")] == [
        f"browser-{name}" for name in ("pair", "seed", "left", "right", "filter", "problem", "sample")
    ]
    assert reached[-1] == "eb-panes"
    start = shown(browser)
    browser.press("ArrowRight", 39, shift=True)
    assert shown(browser) == (start[0], "1")
    browser.press("ArrowRight", 39)
    moved = shown(browser)
    assert moved[0] != start[0] and moved[1] == "0"
    assert browser.evaluate("document.activeElement.className") == "eb-panes", "the place is kept"
    browser.press("ArrowLeft", 37)
    assert shown(browser)[0] == start[0]


@pytest.mark.browser
def test_a_view_has_an_address_and_a_forged_one_is_ignored(
    results: Path, browser: Page, tmp_path: Path
) -> None:
    address = page_of(results, tmp_path)
    browser.open(address)
    browser.evaluate(
        "(() => { const select = document.getElementById('browser-pair'); select.selectedIndex = 2;"
        "select.dispatchEvent(new Event('change', {bubbles: true})); })()"
    )
    view = "document.querySelector('.eb-panes').textContent"
    link, text = browser.evaluate("location.href"), browser.evaluate(view)
    browser.open("about:blank")
    browser.open(link)
    assert browser.evaluate(view) == text
    opening = browser.evaluate("document.getElementById('browser-pair').selectedIndex")
    assert opening == 2
    for forged in (
        "left=x&right=__proto__",
        "left=-1&right=9999",
        "problem=<img src=x onerror=alert(1)>&left=0",
    ):
        browser.open("about:blank")
        browser.open(f"{address}#{forged}")
        assert browser.evaluate("document.getElementById('browser-pair').selectedIndex") == 0
        assert reported(browser) == []


@pytest.mark.browser
def test_problems_can_be_chosen_by_what_rl_did(results: Path, browser: Page, tmp_path: Path) -> None:
    browser.open(page_of(results, tmp_path))
    counts = {}
    for name in ("all", "more", "fewer", "same"):
        browser.evaluate(
            "(() => { const select = document.getElementById('browser-filter');"
            f"select.value = '{name}'; select.dispatchEvent(new Event('change', {{bubbles: true}})); }})()"
        )
        counts[name] = browser.evaluate("document.getElementById('browser-problem').length")
    data = collect(results).content
    _, seed, before, after = data["pairs"][0]
    right = [
        tuple(sum(sample[0] for sample in entry[str(index)]) for index in (before, after))
        for (its_seed, _, _), entry in zip(data["problems"], data["completions"], strict=True)
        if its_seed == seed
    ]
    assert counts == {
        "all": len(right),
        "more": sum(b > a for a, b in right),
        "fewer": sum(b < a for a, b in right),
        "same": sum(a == b for a, b in right),
    }
    assert counts["more"] > 0


@pytest.mark.browser
def test_the_browser_reads_well_narrow_and_wide(
    results: Path, browser: Page, axe: str, tmp_path: Path
) -> None:
    found = findings(browser, page_of(results, tmp_path), axe)
    assert not found, "\n".join(found)


@pytest.mark.browser
def test_without_scripts_the_first_view_is_there(results: Path, browser: Page, tmp_path: Path) -> None:
    address = page_of(results, tmp_path)
    browser.send("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(address)
        document = browser.send("DOM.getDocument", depth=-1)
        markup = browser.send("DOM.getOuterHTML", nodeId=document["root"]["nodeId"])["outerHTML"]
    finally:
        browser.send("Emulation.setScriptExecutionDisabled", value=False)
    opening = collect(results).opening
    assert len(opening) == 2 and all(html.escape(title) in markup for title, *_ in opening)
    assert "Scripts are off" in markup


def test_the_page_opens_with_the_model_that_the_argument_is_about(results: Path) -> None:
    titles = [title for title, *_ in collect(results).opening]
    assert titles == ["rich: sometimes searches, before RL", "rich: sometimes searches, after 40 steps of RL"]
