"""Shared by the tests: tiny models, made in memory, and a browser without a network."""

from __future__ import annotations

import os

# Before torch is imported: tests are timed, and compared bit by bit, on one thread.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import shutil
import subprocess
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chromium import Page
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from extrabitter.params import GrpoParameters
    from extrabitter.tasks import Task

SPECIALS = ("<pad>", "<bos>", "<eos>", "<unk>")
OPERATORS = ("+", "-", "*", "/", "=", ",", ":", ".")
WORDS = ("numbers", "target", "think", "check", "yes", "no", "back", "need", "aim", "answer")
AXE_VERSION = "4.14.1"
AXE_SHA256 = "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"
TINY_VOCABULARY = (*SPECIALS, *(str(number) for number in range(61)), *OPERATORS, *WORDS)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --require-browser (fail where Chromium or npm is missing, instead of skipping), --book and --gpu."""
    parser.addoption(
        "--require-browser",
        action="store_true",
        help="fail where Chromium or npm is missing, instead of skipping the tests that need them",
    )
    parser.addoption("--book", default="smoke", help="profile whose built book the tests of pages read")
    parser.addoption("--gpu", action="store_true", help="let test_gpu.py use a GPU; all others are for a CPU")


def pytest_configure(config: pytest.Config) -> None:
    """Hide GPUs unless asked for: what the tests compare was computed on a CPU."""
    if not config.getoption("--gpu"):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with files that hold slow tests: a process that met them last would work on alone."""
    slow = {item.path for item in items if "slow" in item.keywords}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture
def letters(monkeypatch: pytest.MonkeyPatch) -> Task:
    """The toy task of `toy_task`, known to `load_task` while a test runs."""
    from extrabitter import tasks

    monkeypatch.setitem(tasks.REGISTRY, "letters", "toy_task:Letters")
    return tasks.load_task("letters")


@pytest.fixture
def grpo_parameters() -> Callable[..., GrpoParameters]:
    """A builder of parameters of small GRPO runs: 4 groups of 4 completions."""
    from extrabitter.params import GrpoParameters

    def build(**changes: Any) -> GrpoParameters:
        values = {"num_steps": 2, "num_generations": 4, "per_device_train_batch_size": 16}
        values |= {"max_completion_length": 24, "logging_steps": 1, "learning_rate": 1e-3}
        identity = {"run_dir": "unused", "arm": "test", "seed": 3, "init_from": "unused"}
        return GrpoParameters(**{**identity, **values, **changes})

    return build


@pytest.fixture(scope="session")
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer over the Countdown words."""
    from extrabitter.models.tiny import build_tokenizer, set_up_process

    set_up_process(1)
    return build_tokenizer(TINY_VOCABULARY)


@pytest.fixture(scope="session")
def build_tiny_model() -> Callable[..., PreTrainedModel]:
    """A builder of two-layer Llama or Qwen2 models whose next-token distributions are far from uniform."""

    def build(architecture: str = "llama", seed: int = 0, **sizes: int) -> PreTrainedModel:
        from extrabitter.models.tiny import build_model, set_up_process

        set_up_process(1)
        shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
        model = build_model(architecture, len(TINY_VOCABULARY), **{**shape, **sizes}, seed=seed)
        for parameter in model.parameters():  # at the usual .02 every prediction would be nearly uniform
            if parameter.dim() == 2:
                parameter.data.mul_(4.0)
        return model

    return build


def no_browser(request: pytest.FixtureRequest, reason: str) -> NoReturn:
    """Skip the tests that need a browser, or fail them where one is required."""
    if request.config.getoption("--require-browser"):
        pytest.fail(f"--require-browser: {reason}", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def axe(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Source of axe-core, fetched once by npm, kept in _build/axe, and held against its hash."""
    from extrabitter.digests import REPOSITORY, file_sha256

    path = REPOSITORY / "_build" / "axe" / "axe.min.js"
    if not path.is_file():
        npm = shutil.which("npm")
        if npm is None:
            no_browser(request, "npm is not installed (Debian: `apt install npm`) to fetch axe-core with")
        folder = tmp_path_factory.mktemp("axe")
        options = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-save"]
        command = [npm, "install", "--prefix", str(folder), *options, f"axe-core@{AXE_VERSION}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        fetched = folder / "node_modules" / "axe-core" / "axe.min.js"
        if done.returncode or not fetched.is_file():
            last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
            no_browser(request, f"npm could not fetch axe-core {AXE_VERSION}: {last}")
        path.parent.mkdir(parents=True, exist_ok=True)
        # Another process may fetch it too.
        shutil.copy(fetched, path.with_name(f"{os.getpid()}.js")).replace(path)
    assert file_sha256(path) == AXE_SHA256, f"{path} is not axe-core {AXE_VERSION}; remove it"
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def browser(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """One page of a headless browser without a network."""
    from chromium import find_chromium, open_browser

    program = find_chromium()
    if program is None:
        no_browser(request, "Chromium is not installed (Debian: `apt install chromium`)")
    with open_browser(program, tmp_path_factory.mktemp("chromium")) as page:
        yield page
