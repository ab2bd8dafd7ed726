"""Every chapter runs on one seed, on three and with failed arms, and glues and draws all that its prose asks for."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

import synthetic_results
from extrabitter import dose
from extrabitter.evaluation import evaluate as evaluation
from extrabitter import extinction
from extrabitter import measured_shares
from synthetic_results import MODELS, completions_table, summary_table, write_results, write_run

ROOT = Path(__file__).resolve().parents[1]
# The theory chapter reads no results and takes its own time; the smoke book runs it.
CHAPTERS = [
    path for path in sorted((ROOT / "notebooks/chapters").glob("*.ipynb")) if path.stem != "why_rl_is_search"
]
EVERYTHING_FAILED = [
    *(("base_model", arm, 0) for arm in ("trunk", "absent", "rich")),
    *(("sft_priming", arm, 0) for arm in ("sft_verification_backtracking", "sft_direct")),
    *(("grpo", f"grpo_{model}", 0) for model in MODELS),
    *(
        ("behaviour_evaluation", f"{before}{model}", 0)
        for model in MODELS
        for before in ("base_", "grpo_", "")
    ),
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("results")
    failed = [("grpo", "grpo_rich", 0), ("behaviour_evaluation", "grpo_rich", 0)]
    return {
        "one": write_results(root / "one", num_problems=8),
        "three": write_results(root / "three", seeds=(0, 1, 2), num_problems=8),
        "failed": write_results(root / "failed", failed=failed, num_problems=8),
        "all_failed": write_results(root / "all_failed", failed=EVERYTHING_FAILED, num_problems=4),
    }


def run(chapter: Path, results: Path, output: Path) -> tuple[dict[str, str], str]:
    """Run a chapter's code in this process; return what it glued and the HTML it showed."""
    shell = InteractiveShell.instance()
    shell.reset(new_session=False)
    glued: dict[str, str] = {}
    shown = ""
    given = {"results_dir": str(results), "output_dir": str(output), "profile": "made_up"}
    for cell in json.loads(chapter.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] != "code":
            continue
        with capture_output() as captured:
            done = shell.run_cell("".join(cell["source"]))
        assert done.success, f"{chapter.stem}: {done.error_in_exec or done.error_before_exec!r}"
        if "parameters" in cell["metadata"].get("tags", []):
            shell.push(given)
        shown += getattr(done.result, "data", "")
        for output in captured.outputs:
            if "scrapbook" in output.metadata:
                glued[output.metadata["scrapbook"]["name"]] = next(iter(output.data.values()))
            shown += output.data.get("text/html", "")
    return glued, shown


@pytest.mark.parametrize("which", ["one", "three", "failed", "all_failed"])
@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_glues_and_draws_all_that_its_prose_asks_for(
    chapter: Path, which: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    glued, shown = run(chapter, folders[which], tmp_path)
    cells = json.loads(chapter.read_text(encoding="utf-8"))["cells"]
    prose = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    assert set(re.findall(r"\{glue:text\}`(\w+)`", prose)) <= glued.keys()
    assert not [key for key, text in glued.items() if "nan" in text.lower()]
    for path in re.findall(r"\{figure\} (\S+)", prose) + re.findall(r"<(tables/\S+)>`", prose):
        assert (tmp_path / path).stat().st_size > 0, path
    assert "nan" not in re.sub(r"<[^>]*>", " ", shown).split()
    if which == "failed" and chapter.stem in ("grpo_curves", "taste_test", "behaviours", "runs", "index"):
        assert "loss is not finite at step 3" in shown


def test_arms_with_forced_search_are_told_apart_where_they_were_run(tmp_path: Path) -> None:
    for arm, like in (
        ("base_latent", "base_absent"),
        ("grpo_latent", "grpo_absent"),
        ("grpo_latent_weighted", "grpo_absent"),
        ("grpo_latent_forced", "grpo_rich"),
    ):
        completions = completions_table(like, 0, 6, 2)
        tables = {"completions": completions, "summary": summary_table(completions)}
        write_run(tmp_path / "results", "behaviour_evaluation", arm, 0, tables)
    glued, shown = run(ROOT / "notebooks/chapters/sampler_or_gradient.ipynb", tmp_path / "results", tmp_path)
    assert re.search(r"only the sampler's barrier falls, 0\.0 % search", glued["answer"])
    assert "not run" not in glued["forced_takes_off_verdict"] and "1e-07" in glued["chance"]
    assert "latent, search forced and weighted back" in shown


def test_the_ledger_is_kept_where_its_arms_were_run(tmp_path: Path) -> None:
    for band in ("common", "rare"):
        for model in ("absent", "rich"):
            for stage in ("base", "grpo"):
                arm = f"{band}_{stage}_{model}"
                num_samples = 4 if arm == "rare_base_absent" else 2
                completions = completions_table(f"{stage}_{model}", 0, 8, num_samples)
                tables = {"completions": completions, "summary": summary_table(completions)}
                tables["pass_at_k"] = evaluation.pass_at_k_table(completions, 2)
                write_run(tmp_path / "results", "behaviour_evaluation", arm, 0, tables)
    glued, shown = run(ROOT / "notebooks/chapters/sharper_or_broader.ipynb", tmp_path / "results", tmp_path)
    assert glued["k"] == "'2'" and "points" in glued["null_net"]
    assert "not run" not in glued["absent_verdict"] + glued["rich_verdict"]
    assert "absent against itself, no RL" in shown and shown.count("solutions rare") == 4 + 3 + 4
    # One seed has no interval over seeds, and nothing is concluded from it.
    assert "points under RL: these runs do not tell" in glued["same_tokens"]
    assert "In the base that never searches RL moved, on problems like those of training" in glued["moved"]


@pytest.fixture(scope="module")
def ladder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds of every rung and their probes: the base searches as its dose says, RL has it search always."""
    root = tmp_path_factory.mktemp("ladder")
    curve = np.arange(1, 81)
    for seed in (0, 1):
        for rung, chance in zip(dose.RUNGS, (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1), strict=True):
            completions = completions_table("base_rich", seed, 8, 4)
            before, after = (
                summary_table(completions),
                summary_table(completions_table("grpo_rich", seed, 8, 4)),
            )
            before.loc[before["measure"] == "search_probability", "value"] = chance
            steps = synthetic_results.steps_table(seed, "rich", curve[-1])
            late = 120 - 20 * np.log10(chance / 1e-4)
            steps["correct_reward"] = 0.3 + 0.6 / (1 + np.exp(-(curve - late) / 3))
            steps["frac_searches"] = 1 / (1 + np.exp(-(curve - late) / 3))
            write_run(root, "grpo", f"grpo_{rung}", seed, {"steps": steps})
            tables = {"completions": completions, "summary": before}
            write_run(root, "behaviour_evaluation", f"base_{rung}", seed, tables)
            tables = {"completions": completions_table("grpo_rich", seed, 8, 4), "summary": after}
            write_run(root, "behaviour_evaluation", f"grpo_{rung}", seed, tables)
            tables = synthetic_results.probe_tables(seed, chance)
            write_run(root, "will_it_choke", f"probe_{rung}", seed, tables)
    return root


def test_the_ladder_has_its_threshold_its_take_off_and_its_selection(ladder: Path, tmp_path: Path) -> None:
    glued, shown = run(ROOT / "notebooks/chapters/how_much_is_enough.ipynb", ladder, tmp_path)
    assert "half done at a chance of about" in glued["answer"] and "two seeds" in glued["answer"]
    assert "exploratory, two seeds" in glued["dose_is_a_threshold_verdict"]
    assert "right when made to search" in shown
    assert "ladder: one document in a hundred searches" in shown
    glued, shown = run(ROOT / "notebooks/chapters/the_tail.ipynb", ladder, tmp_path)
    assert "search took off in" in glued["answer"] and glued["batches"] == "'256'"
    assert "top-k 5" in shown and "100.0 %" in shown
    glued, shown = run(ROOT / "notebooks/chapters/what_rl_selects.ipynb", ladder, tmp_path)
    assert "had the direction right in 100.0 %" in glued["answer"]
    assert "not to be judged" in glued["advantage_beats_simpler_predictors_verdict"]  # not every model
    assert "interventional advantage" in shown and "majority direction" in shown
    assert "Carried to five other arms" in glued["carried"]


@pytest.fixture(scope="module")
def dying(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seeds with room and without: accuracy doubles in all, and search goes where there is no room."""
    root = tmp_path_factory.mktemp("dying")
    curve = np.arange(1, 61)
    for seed in (0, 1, 2):
        for arm in (extinction.LOOSE, extinction.TIGHT_BONUS):
            steps = synthetic_results.steps_table(seed, "rich", curve[-1])
            steps["correct_reward"] = np.where(curve <= 40 + seed, 0.3, 0.6)
            steps["frac_searches"] = np.where(curve <= 20, 0.1, 0.9 if arm == extinction.LOOSE else 0.01)
            write_run(root, "grpo", arm, seed, {"steps": steps})
            completions = completions_table("base_rich", seed, 8, 4)
            tables = {"completions": completions, "summary": summary_table(completions)}
            write_run(root, "behaviour_evaluation", arm, seed, tables)
    return root


def test_search_that_dies_under_a_tight_cap_is_told_from_search_that_grows(
    dying: Path, tmp_path: Path
) -> None:
    glued, shown = run(ROOT / "notebooks/chapters/how_search_dies.ipynb", dying, tmp_path)
    assert "0.10 (0.10 to 0.10) times that of the start" in glued["answer"]
    assert "held" in glued["answer"] and "exploratory, three seeds" in glued["answer"]
    assert "24 tokens" in glued["cap"] and "10 %" in glued["bonus"]
    assert "9.00 (9.00 to 9.00)" in shown and "45, 46, 47" in shown
    # A base's payoffs say nothing of runs that are rewarded or cut off otherwise.
    assert set(measured_shares.completions_a_step(dying)) == {extinction.LOOSE}


@pytest.mark.parametrize(
    "notebook", sorted((ROOT / "notebooks/chapters").glob("*.ipynb")), ids=lambda path: path.stem
)
def test_a_chapter_that_reads_runs_waits_for_them(notebook: Path) -> None:
    content = json.loads(notebook.read_text(encoding="utf-8"))
    code = ["".join(cell["source"]) for cell in content["cells"] if cell["cell_type"] == "code"]
    # The theory's page names the folder in its footer only.
    reads = any(
        "results_dir" in source.replace("provenance_html(results_dir, profile, [])", "")
        for source in code
        if "results_dir: str" not in source
    )
    assert content["metadata"].get("extrabitter", {}).get("reads_runs", True) or not reads


def test_glue_taken_from_another_page_is_glued_there(folders: dict[str, Path], tmp_path: Path) -> None:
    wanted: dict[str, set[str]] = {}
    pages = [*(ROOT / "notebooks/chapters").glob("*.ipynb"), *(ROOT / "book").glob("*.md")]
    for page in pages:
        for source, key in re.findall(r"\{glue:text\}`([\w./]+)::(\w+)", page.read_text(encoding="utf-8")):
            wanted.setdefault(source, set()).add(key)
    assert {"search_pays", "nothing_created_verdict"} <= wanted["taste_test.ipynb"]
    for source, keys in wanted.items():
        for which in ("one", "all_failed"):
            glued, _ = run(ROOT / "notebooks/chapters" / source, folders[which], tmp_path)
            assert keys <= glued.keys(), source


def test_chapters_use_no_torch() -> None:
    # The tower of figures and prose builds where torch is not installed.
    code = "import sys, extrabitter.claims, extrabitter.experiments.figures, extrabitter.experiments.training_figures; "
    code += "import extrabitter.pages.highlighting; sys.exit('torch' in sys.modules)"
    assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", code]) == 0
