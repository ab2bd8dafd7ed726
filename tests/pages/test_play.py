"""The models in the page: the same numbers as PyTorch's, judges as strict as the book's, and nothing but text."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from functools import cache
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import torch
from chromium import Page
from page_checks import AXE, NARROW, SETTLED, TOO_WIDE, WIDE, findings, reported

from extrabitter.digests import REPOSITORY
from extrabitter.models.dial import turn
from extrabitter.models.hub import decode, encode_prompts, end_ids
from extrabitter.models.rollouts import SamplingParameters, generate
from extrabitter.models.tiny import load_checkpoint, set_up_process, word_ids
from extrabitter.pages.build import BANDS, MODELS, NUM_PROBLEMS, problems, stage_play
from extrabitter.plan import CHAPTER_NOTEBOOKS
from extrabitter.tasks import load_task

CHAPTERS = ("index", "the_game", "choke", "why_rl_is_search")
NAMED = [f"{task}/{name}" for task, names in MODELS.items() for name in names]
MAX_BYTES = 12_000_000
STATUS = "[...document.querySelectorAll('[role=status]')].at(-1).textContent"


@cache
def example(chapter: str) -> str:
    """The cell of a chapter that becomes something to play with."""
    cells = json.loads((REPOSITORY / CHAPTER_NOTEBOOKS / f"{chapter}.ipynb").read_text("utf-8"))["cells"]
    (found,) = [cell for cell in ("".join(cell["source"]) for cell in cells) if "eb-play" in cell]
    return found


@cache
def checkpoint(name: str) -> tuple[Any, Any]:
    set_up_process(1)
    return load_checkpoint(REPOSITORY / "models" / name)


def written(
    name: str, drawn: Sequence[Any], cap: int, bias: float = 0, opening: str = "", **own: Any
) -> list[str]:
    """Completions of problems by our rollouts, greedy ones unless told, the dial on the words of search at `bias`."""
    (model, tokenizer), task = checkpoint(name), load_task(name.split("/")[0])
    ends, begun = end_ids(model, tokenizer), word_ids(tokenizer, opening.split())
    sampling = SamplingParameters(cap - len(begun), **{"temperature": 0.0, **own})
    asked = encode_prompts(tokenizer, [task.prompt(problem) for problem in drawn])
    prompts, seeded = [[*prompt, *begun] for prompt in asked], torch.Generator().manual_seed(0)
    turn(model, word_ids(tokenizer, task.openings["search"].words), bias)
    try:
        found = generate(model, prompts, 1, sampling, end_ids=ends, generator=seeded)
    finally:
        turn(model, [], 0)
    return [decode(tokenizer, [*begun, *ids], ends) for ids in found.completion_ids]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a page a chapter that holds its cell and nothing else, and with what these load."""
    folder = tmp_path_factory.mktemp("play")
    stage_play(REPOSITORY, folder / "play")
    (folder / "play" / "play.js").write_bytes((REPOSITORY / "book/_extra/play/play.js").read_bytes())
    style = (REPOSITORY / "book/_static/book.css").read_text(encoding="utf-8")
    head = '<!doctype html><html lang="en-GB"><head><meta charset="utf-8"><title>t</title>'
    head += '<meta name="viewport" content="width=device-width"><style>html[data-theme=dark] '
    head += f"{{ background: #111; color: #ddd; }} {style}</style></head><body><main><h1>A page</h1>"
    for chapter in CHAPTERS:
        text = f"{head}{example(chapter)}</main></body></html>"
        (folder / f"{chapter}.html").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def page(browser: Page, site: Path) -> Page:
    """The first page in a browser whose reader wants no movement: completions stand there at once."""
    asked = [{"name": "prefers-reduced-motion", "value": "reduce"}]
    browser.send("Emulation.setEmulatedMedia", features=asked)
    browser.resize(WIDE)
    browser.open((site / "index.html").as_uri())
    return browser


def until(page: Page, condition: str) -> None:
    """Wait for a condition, at most a minute."""
    page.evaluate(
        f"(async () => {{ for (let i = 0; i < 1200 && !({condition}); i++)"
        f" await new Promise((resolve) => setTimeout(resolve, 50)); if (!({condition})) throw Error('too late'); }})()"
    )


def press(page: Page, words: str) -> None:
    """Press the button that begins with `words`."""
    every = "[...document.querySelectorAll('button')]"
    page.evaluate(f"{every}.find((node) => node.textContent.startsWith('{words}')).click()")


def asked(page: Page, name: str, expression: str, *given: Any) -> Any:
    """Evaluate an expression of `model`, loaded by its name, and `given`."""
    call = f"((model, ...given) => {expression})(model, ...{json.dumps(given)})"
    return page.evaluate(f"ebPlay.load('{name}').then((model) => {call})")


@pytest.mark.browser
@pytest.mark.parametrize("name", ["countdown/searcher", "knights/searcher"])
def test_logits_are_those_of_pytorch_whatever_was_read_before(name: str, page: Page) -> None:
    (model, tokenizer), task = checkpoint(name), load_task(name.split("/")[0])
    drawn = task.problems("test", 3, 5, BANDS[task.name])
    completions = written(name, drawn, 60, 4, temperature=1.0)
    texts = [f"{task.prompt(problem)} {text}" for problem, text in zip(drawn, completions, strict=True)]
    texts.append(" ".join([*texts[0].split()[:20], "yes", "no"]))
    for text in [*texts, texts[0]]:  # the last two begin alike
        found = asked(page, name, "[...model.read(given[0])]", text.split())
        with torch.inference_mode():
            logits = model(torch.tensor([tokenizer(text)["input_ids"]])).logits[0, -1]
        assert (torch.tensor(found) - logits).abs().max() < 1e-4


@pytest.mark.browser
@pytest.mark.parametrize(("name", "bias"), [*((name, 0) for name in NAMED), ("countdown/searcher", 4)])
def test_the_likeliest_completions_are_those_of_our_rollouts(name: str, bias: int, page: Page) -> None:
    task = load_task(name.split("/")[0])
    drawn = task.problems("test", 8, 6, BANDS[task.name])
    prompts = [task.prompt(problem).split() for problem in drawn]
    options = {"opens": task.openings["search"].words, "bias": bias}
    write = "given[0].map((prompt) => [...ebPlay.write(model, prompt, {cap: 60, ...given[1]})].map(({word}) => word))"
    found = [" ".join(words) for words in asked(page, name, write, prompts, options)]
    assert found == written(name, drawn, 60, bias)
    assert any("check" in text for text in found) == (bias > 0)


@pytest.mark.browser
def test_the_judge_of_countdown_is_the_verifier(page: Page) -> None:
    task = load_task("countdown")
    drawn = task.problems("test", 120, 7, "common")
    pairs, seen = [], set[Any]()
    for index, text in enumerate(written("countdown/searcher", drawn, 120, 4, temperature=1.0)):
        words, other = text.split(), ("answer", "8", "yes", "=", "<b>", "/", "61")[index % 7]
        left_out, changed = 7 * index % len(words), len(words) - 2 - index % 10
        shorter = [*words[:left_out], *words[left_out + 1 :]]
        for own in (words, shorter, [*words[:changed], other, *words[changed + 1 :]]):
            pairs.append((" ".join(own), drawn[index].identifier))
    found = page.evaluate(
        f"{json.dumps(pairs)}.map(([text, name]) => ebPlay.judgeCountdown(text, ebPlay.readCountdown(name)))"
        ".map(({correct, reason, value, uses}) => [correct, reason, value === null ? '' : String(value), uses])"
    )
    for (text, name), judged in zip(pairs, found, strict=True):
        trace = task.parse(text, task.read_problem(name))
        uses = [use for use in trace.uses if use.behaviour in ("verification", "backtracking")]
        expected = [[use.behaviour, use.start, use.end, use.functional] for use in uses]
        assert judged == [*trace.verdict, expected], text
        seen |= {trace.verdict.reason, *(use.functional for use in uses)}
    assert {"correct", "wrong_value", "unexpected_word", "number_not_available", True, False} <= seen


@pytest.mark.browser
def test_the_judge_of_roles_is_the_verifier(page: Page) -> None:
    task, puzzles = load_task("knights"), problems()["knights"]
    drawn = task.problems("test", NUM_PROBLEMS["knights"], 0, BANDS["knights"], distinct=True)
    assert [prompt for prompt, _ in puzzles] == [task.prompt(problem) for problem in drawn]
    texts = [
        (text, index)
        for opening in ("", "assume")
        for index, text in enumerate(written("knights/searcher", drawn, 420, 0, opening, temperature=1.0))
    ]
    texts += [("L knight L knave answer", 0), ("L knight answer", 0)]
    pairs = [(text, puzzles[index][1]) for text, index in texts]
    found = page.evaluate(
        f"{json.dumps(pairs)}.map(([text, islands]) => ebPlay.judgeKnights(text, islands))"
        ".map(({correct, reason}) => [correct, reason])"
    )
    assert found == [list(task.parse(text, drawn[index]).verdict[:2]) for text, index in texts]
    assert {"correct", "wrong_role", "person_twice", "person_unknown"} <= {reason for _, reason in found}


@pytest.mark.parametrize("chapter", CHAPTERS[:3])
def test_the_example_that_stands_there_is_what_the_models_write(chapter: str) -> None:
    kind, name = re.findall(r'data-play="(\w+)" data-problem="([^"]+)"', example(chapter))[0]
    task = load_task(kind)
    problem = task.read_problem(name)
    shown = re.findall(r'eb-completion eb-(right|wrong)".*?eb-text">(.*?)</p>', example(chapter), re.DOTALL)
    for model, (verdict, markup) in zip(MODELS[kind], shown, strict=True):
        text = unescape(re.sub("<[^>]+>", "", markup))
        made = {"bias": 4} if kind == "countdown" else {"opening": "assume"}
        assert written(f"{kind}/{model}", [problem], 420, **({} if model == "guesser" else made)) == [text]
        assert task.verify(text, problem).correct == (verdict == "right")


@pytest.mark.browser
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_it_reads_well_before_and_after_it_is_pressed(chapter: str, page: Page, site: Path, axe: str) -> None:
    found = findings(page, (site / f"{chapter}.html").as_uri(), axe)
    for words in (
        ("Turn",) if chapter == CHAPTERS[-1] else (("Other" if chapter == "choke" else "Play"), "Watch")
    ):
        press(page, words)
    until(page, f"{STATUS}.length > 40")
    count = page.evaluate("document.querySelectorAll('.eb-completion figcaption:not(:empty)').length")
    assert count == dict(zip(CHAPTERS, (2, 2, 3, 1), strict=True))[chapter]
    for width, theme in ((NARROW, "dark"), (WIDE, "light")):
        page.resize(width)
        page.evaluate(f"document.documentElement.dataset.theme = '{theme}'; {SETTLED}")
        found += [f"wider by {wider} px" for wider in [page.evaluate(TOO_WIDE)] if wider > 0]
        found += page.evaluate(AXE)
    assert not found + reported(page)


@pytest.mark.browser
def test_keys_suffice_and_what_is_typed_stays_text(page: Page) -> None:
    page.press("Tab", 9)
    page.press("Enter", 13)
    answers = {"<img src=x onerror=window.hacked=1>": "✗ “<”", "(10+8": "✗ A bracket"}
    answers["10 + 8 + 5"] = "✗ That makes 23"
    for typed, said in answers.items():
        assert page.evaluate("document.activeElement.type") == "text", "where one types is focused"
        page.evaluate("document.activeElement.select()")
        page.send("Input.insertText", text=typed)
        page.press("Enter", 13)
        assert page.evaluate("document.querySelector('.eb-said').textContent").startswith(said)
    assert page.evaluate("[window.hacked ?? 0, document.images.length]") == [0, 0]
    names = []
    for _ in range(4):
        page.press("Tab", 9)
        names.append(page.evaluate("document.activeElement.textContent || document.activeElement.type"))
    assert names == ["Submit", "checkbox", "Watch the models (1 MB)", "Another problem"]
    page.press("Tab", 9, shift=True)
    page.press(" ", 32)
    until(page, f"{STATUS}.includes('wrote')")
    texts = "[...document.querySelectorAll('.eb-text')].map((node) => node.textContent)"
    guess, search = page.evaluate(texts)
    assert "check" not in guess and "check" in search, "the searcher is made to check"
    assert f"The searcher wrote: {search.strip()}" in page.evaluate(STATUS)


@pytest.mark.browser
def test_the_dial_takes_searches_away_and_gives_them_back(page: Page, site: Path) -> None:
    page.open((site / "why_rl_is_search.html").as_uri())
    press(page, "Turn")
    counts = []
    for bias in (0, -13, 0):
        slider = f"Object.assign(document.querySelector('input'), {{value: {bias}}})"
        page.evaluate(
            f"{slider}.dispatchEvent(new Event('input')), document.querySelector('[role=status]').textContent = ''"
        )
        until(page, f"{STATUS}.includes('of 40')")
        counts.append(int(page.evaluate(STATUS).split()[0]))
    assert counts[0] == counts[2] > 0 == counts[1]
    chance = "given[1].map((bias) => [...ebPlay.write(model, given[0], {cap: 12, opens: ['check', 'back'],"
    chance += " bias: bias ?? -Infinity})][11].search)"  # behind the first attempt, which has eleven words
    prompt = load_task("countdown").prompt(load_task("countdown").read_problem("6-11-15:20")).split()
    free, turned, silenced = asked(page, "countdown/searcher", chance, prompt, [0, -3, None])
    odds = free / (1 - free) * math.exp(-3)
    assert 0.05 < free < 0.2 and silenced == 0 and turned == pytest.approx(odds / (1 + odds), rel=1e-4)


def test_what_a_reader_loads_is_small(site: Path) -> None:
    sizes = {path.stem: path.stat().st_size for path in (site / "play").iterdir()}
    assert set(sizes) == {"play", "problems", *(name.replace("/", "-") for name in NAMED)}
    assert sum(sizes.values()) < MAX_BYTES and sizes["play"] + sizes["problems"] < 50_000
