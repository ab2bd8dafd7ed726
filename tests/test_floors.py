"""The floors of the package: imports go down only, and the two towers meet only in tables on disk."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from extrabitter.digests import PACKAGE, REPOSITORY, import_closure, notebook_code

BASEMENT = {"__init__", "artifacts", "config", "fingerprints", "lineage", "provenance", "records", "seeding"}
TASKS = {"tasks"}
INSTRUMENTS = {
    "arms",
    "behaviours",
    "calibration",
    "dose",
    "dynamics",
    "estimates",
    "extinction",
    "fitted_dynamics",
    "ledger",
    "measured_shares",
    "metrics",
    "predictions",
    "priming",
    "rewards",
    "selection",
    "success_map",
    "theory",
}
INSTRUMENTS |= {"theory_tables"}
INSTRUMENTS |= {"census", "census_phrases", "census_scores", "judge", "natural", "priming_advice"}
INSTRUMENTS |= {"gpu_plans", "hyperparameters", "natural_measures", "wording"}
INSTRUMENTS |= {"dataset_export", "reflection_keywords", "stated_equations", "training_costs"}
MODELS = {
    "batching",
    "decoder",
    "exploration",
    "grpo",
    "grpo_loss",
    "grpo_steps",
    "models",
    "muon",
    "pretraining",
    "rollouts",
    "sampling",
}
MODELS |= {"distributed", "hub_generate", "pretrained", "sft", "side_by_side", "smollm2"}
EVALUATION = {"competence", "evaluation", "probe"}
EVALUATION |= {"decoding", "interventions", "natural_evaluation", "natural_probe", "probe_report"}
FIGURES = {
    "benchmark_figures",
    "evidence_figures",
    "figure_style",
    "figures",
    "theory_figures",
    "training_figures",
}
REPORTING = {"benchmark_tables", "census_tables", "completions_browser", "highlighting", "reporting"}
REPORTING |= {
    "captions",
    "claims",
    "provenance_tables",
    "published_results",
    "recipe_tables",
    "scorecard",
    "takeaways",
    "verdicts",
}
PIPELINE = {"execution", "exporting", "page_footers", "pipeline", "publishing"}
PIPELINE |= {"run_pages", "scheduling", "shipping", "staging"}
ROOF = {"cli"}

LEFT_TOWER, RIGHT_TOWER = MODELS | EVALUATION, FIGURES | REPORTING
FLOORS = [BASEMENT, TASKS, INSTRUMENTS, MODELS | FIGURES, EVALUATION | REPORTING, PIPELINE, ROOF]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
# What costs seconds to import, and what the book must be built without.
TRAINING_LIBRARIES = {"torch", "trl", "transformers", "accelerate", "datasets", "tokenizers", "safetensors"}

FILES = sorted(path for path in PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    """Name under which a file stands on a floor: a sub-package counts as one."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(path: Path) -> tuple[set[str], set[str]]:
    """Names of this package's files, and of other top-level packages, that a file imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    others = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            others |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path.name}: relative import"
            others.add((node.module or "").partition(".")[0])
    ours = {name_of(file) for file in import_closure([tree], follow=False)}
    return ours - {"__init__", name_of(path)}, others - {PACKAGE.name}


def ids(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_imports_go_down_only(path: Path) -> None:
    assert name_of(path) in FLOOR, f"say on which floor {path.name} stands, in FLOORS above"
    for name in imports(path)[0]:
        assert FLOOR[name] <= FLOOR[name_of(path)], f"{path.name} imports {name} from a floor above"


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_towers_do_not_import_each_other(path: Path) -> None:
    ours = imports(path)[0]
    if name_of(path) in LEFT_TOWER:
        assert not ours & RIGHT_TOWER
    if name_of(path) in RIGHT_TOWER:
        assert not ours & LEFT_TOWER


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_only_the_left_tower_imports_training_libraries(path: Path) -> None:
    if name_of(path) not in LEFT_TOWER:
        assert not imports(path)[1] & TRAINING_LIBRARIES


@pytest.mark.parametrize("name", sorted(PIPELINE))
def test_pipeline_imports_the_basement_and_itself_only(name: str) -> None:
    assert imports(PACKAGE / f"{name}.py")[0] <= BASEMENT | PIPELINE


def test_sft_and_grpo_share_nothing_but_a_checkpoint_path() -> None:
    assert "grpo" not in imports(PACKAGE / "sft.py")[0]
    assert "sft" not in imports(PACKAGE / "grpo.py")[0]


@pytest.mark.parametrize(
    "notebook", sorted((REPOSITORY / "notebooks" / "chapters").glob("*.ipynb")), ids=lambda path: path.stem
)
def test_chapter_reaches_no_training_code(notebook: Path) -> None:
    closure = import_closure([ast.parse(cell) for cell in notebook_code(notebook)])
    assert not {name_of(path) for path in closure} & LEFT_TOWER


def test_no_code_evaluates_text() -> None:
    for path in FILES:
        calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        names = {func.id for func in calls if isinstance(func, ast.Name)}
        assert not names & {"eval", "exec", "compile", "__import__"}, path.name
        assert "pickle" not in imports(path)[1], path.name
