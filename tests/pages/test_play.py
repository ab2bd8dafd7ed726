"""The models in the page: the same numbers as PyTorch's, judges as strict as the book's, and nothing but text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from functools import cache
from html import unescape
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
from extrabitter.pages.play import BANDS, MODELS, NUM_PROBLEMS, problems, stage_play
from extrabitter.plan import CHAPTER_NOTEBOOKS
from extrabitter.tasks import load_task

CHAPTERS = {"index": "countdown", "the_game": "countdown", "choke": "knights", "why_rl_is_search": "dial"}
NAMED = [f"{task}/{name}" for task, names in MODELS.items() for name in names]
MAX_BYTES = 12_000_000
HOSTILE = "<img src=x onerror=window.hacked=1>"


@cache
def example(chapter: str) -> str:
    """The cell of a chapter that a reader may play with."""
    cells = json.loads((REPOSITORY / CHAPTER_NOTEBOOKS / f"{chapter}.ipynb").read_text("utf-8"))["cells"]
    (found,) = [cell for cell in ("".join(cell["source"]) for cell in cells) if "eb-play" in cell]
    return found


@cache
def checkpoint(name: str) -> tuple[Any, Any]:
    set_up_process(1)
    return load_checkpoint(REPOSITORY / "models" / name)


def written(
    name: str, drawn: Sequence[Any], cap: int, temperature: float = 0.0, bias: float = 0.0, opening: str = ""
) -> list[str]:
    """Completions of problems by our rollouts, the dial on the words of search turned by `bias`."""
    (model, tokenizer), task = checkpoint(name), load_task(name.split("/")[0])
    ends, sampling = end_ids(model, tokenizer), SamplingParameters(cap, temperature=temperature)
    turn(model, word_ids(tokenizer, task.search_words), bias)
    try:
        prompts = encode_prompts(tokenizer, [task.prompt(problem) for problem in drawn])
        own = {
            "generator": torch.Generator().manual_seed(0),
            "forced_ids": word_ids(tokenizer, opening.split()),
        }
        return [
            decode(tokenizer, ids, ends)
            for ids in generate(model, prompts, 1, sampling, end_ids=ends, **own).completion_ids
        ]
    finally:
        turn(model, [], 0)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Writes a page that has a chapter's cell and nothing else; returns its address."""
    folder = tmp_path_factory.mktemp("play")
    stage_play(REPOSITORY, folder / "play")
    (folder / "play" / "play.js").write_bytes((REPOSITORY / "book/_extra/play/play.js").read_bytes())
    assert sum(path.stat().st_size for path in folder.rglob("*.js")) < MAX_BYTES
    style = (REPOSITORY / "book/_static/book.css").read_text(encoding="utf-8")
    head = '<!doctype html><html lang="en-GB"><head><meta charset="utf-8"><title>t</title>'
    head += (
        '<meta name="viewport" content="width=device-width"><style>html[data-theme=dark] { background: #111; '
    )
    head += f"color: #ddd; }} {style}</style></head><body><main><h1>A page</h1>"

    def write(chapter: str) -> str:
        path = folder / f"{chapter}.html"
        path.write_text(f"{head}{example(chapter)}</main></body></html>", encoding="utf-8")
        return path.as_uri()

    return write


@pytest.fixture
def still(browser: Page) -> Page:
    """A browser whose reader wants no movement: completions stand there at once."""
    asked = [{"name": "prefers-reduced-motion", "value": "reduce"}]
    browser.send("Emulation.setEmulatedMedia", features=asked)
    browser.resize(WIDE)
    return browser


def until(browser: Page, condition: str) -> None:
    """Wait for a condition, at most a minute; the waiting is the browser's."""
    browser.evaluate(
        f"(async () => {{ for (let i = 0; i < 1200 && !({condition}); i++)"
        f" await new Promise((resolve) => setTimeout(resolve, 50)); if (!({condition})) throw Error('{{late}}'); }})()"
    )


def press(browser: Page, words: str) -> None:
    """Press the button that begins with `words`."""
    browser.evaluate(
        f"[...document.querySelectorAll('button')].find((node) => node.textContent.startsWith('{words}')).click()"
    )


def by_script(browser: Page, name: str, body: str, *given: Any) -> Any:
    """Evaluate `body` in a page with its model `model`, the kit `play` and what is `given`."""
    arguments = json.dumps(given)
    return browser.evaluate(
        f"(async () => {{ const play = ebPlay, model = await play.load('{name}'), given = {arguments};"
        f" window.model = model; {body} }})()"
    )


# --- Numbers ---------------------------------------------------------------------------------------------------


@pytest.mark.browser
@pytest.mark.parametrize("name", ["countdown/searcher", "knights/searcher"])
def test_logits_are_those_of_pytorch_with_and_without_what_was_read_before(
    name: str, browser: Page, site: Callable[[str], str]
) -> None:
    browser.open(site("index"))
    (model, tokenizer), task = checkpoint(name), load_task(name.split("/")[0])
    drawn = task.problems("test", 3, 5, BANDS[task.name])
    texts = [
        f"{task.prompt(p)} {text}" for p, text in zip(drawn, written(name, drawn, 60, 1.0, 4.0), strict=True)
    ]
    texts.append(" ".join(texts[0].split()[:20]) + " yes no")  # its beginning stays in the cache
    for text in [*texts, texts[0]]:
        found = by_script(browser, name, "return [...model.read(given[0])]", text.split())
        with torch.inference_mode():
            logits = model(torch.tensor([tokenizer(text)["input_ids"]])).logits[0, -1]
        assert (torch.tensor(found) - logits).abs().max() < 1e-4


@pytest.mark.browser
@pytest.mark.parametrize(("name", "bias"), [(name, 0.0) for name in NAMED] + [("countdown/searcher", 4.0)])
def test_the_likeliest_completions_are_those_of_our_rollouts(
    name: str, bias: float, browser: Page, site: Callable[[str], str]
) -> None:
    browser.open(site("index"))
    task = load_task(name.split("/")[0])
    drawn = task.problems("test", 8, 6, BANDS[task.name])
    body = "return given[0].map((prompt) => [...play.write(model, prompt, given[1])].map(({word}) => word).join(' '))"
    options = {"cap": 60, "opens": task.search_words, "bias": bias}
    found = by_script(browser, name, body, [task.prompt(p).split() for p in drawn], options)
    expected = written(name, drawn, 60, bias=bias)
    assert found == expected and any("check" in text for text in found) == (bias > 0)


@pytest.mark.browser
def test_a_silenced_searcher_has_no_chance_to_search_and_a_turned_one_that_of_its_logits(
    browser: Page, site: Callable[[str], str]
) -> None:
    browser.open(site("index"))
    body = "return given[1].map((bias) => [...play.write(model, given[0], {cap: 12, opens: ['check', 'back'],"
    body += " bias: bias ?? -Infinity})][11].search)"
    prompt = ["numbers", "6", "11", "15", "target", "20", ":"]
    free, turned, silenced = by_script(browser, "countdown/searcher", body, prompt, [0, -3, None])
    odds = free / (1 - free) * torch.tensor(-3.0).exp().item()
    assert 0.05 < free < 0.2 and silenced == 0 and turned == pytest.approx(odds / (1 + odds), rel=1e-4)


# --- Judges ----------------------------------------------------------------------------------------------------


def mangled(texts: Sequence[str]) -> list[str]:
    """The texts, and each with a word left out and with one changed."""
    found = list(texts)
    for index, words in enumerate(text.split() for text in texts):
        left_out, changed = 7 * index % len(words), max(len(words) - 2 - index % 12, 0)
        found.append(" ".join([*words[:left_out], *words[left_out + 1 :]]))
        other = ("answer", "8", "yes", "=", "<b>", "/", "61")[index % 7]
        found.append(" ".join([*words[:changed], other, *words[changed + 1 :]]))
    return found


@pytest.mark.browser
def test_the_judge_of_countdown_is_the_verifier(browser: Page, site: Callable[[str], str]) -> None:
    browser.open(site("index"))
    task = load_task("countdown")
    drawn = task.problems("test", 120, 7, "common")
    texts = mangled(written("countdown/searcher", drawn, 120, 1.0, 4.0))
    asked = [[text, drawn[i if i < 120 else (i - 120) // 2].identifier] for i, text in enumerate(texts)]
    found = browser.evaluate(
        f"{json.dumps(asked)}.map(([text, name]) => ebPlay.judgeCountdown(text, ebPlay.readCountdown(name)))"
        ".map(({correct, reason, value, uses}) => [correct, reason, value === null ? '' : String(value), uses])"
    )
    seen = set()
    for (text, name), judged in zip(asked, found, strict=True):
        trace = task.parse(text, task.read_problem(name))
        kept = [use for use in trace.uses if use.behaviour in ("verification", "backtracking")]
        uses = [[use.behaviour, use.start, use.end, use.functional] for use in kept]
        assert judged == [*trace.verdict, uses], text
        seen |= {trace.verdict.reason, *(use[3] for use in uses)}
    assert {"correct", "wrong_value", "unexpected_word", "number_not_available", True, False} <= seen


@pytest.mark.browser
def test_the_judge_of_roles_is_the_verifier(browser: Page, site: Callable[[str], str]) -> None:
    browser.open(site("index"))
    task, count = load_task("knights"), NUM_PROBLEMS["knights"]
    drawn, puzzles = task.problems("test", count, 0, BANDS["knights"], distinct=True), problems()["knights"]
    assert [prompt for prompt, _ in puzzles] == [task.prompt(problem) for problem in drawn]
    asked, expected = [], []
    for opening in ("", "assume"):
        for index, text in enumerate(written("knights/searcher", drawn, 420, 1.0, 0.0, opening)):
            asked.append([text, puzzles[index][1]])
            expected.append(list(task.parse(text, drawn[index]).verdict[:2]))
    asked += [["A knight A knave answer", [{"A": "knight"}]], ["B knight answer", [{"A": "knight"}]]]
    expected += [[False, "person_twice"], [False, "person_unknown"]]
    found = browser.evaluate(
        f"{json.dumps(asked)}.map(([text, islands]) => ebPlay.judgeKnights(text, islands))"
        ".map(({correct, reason}) => [correct, reason])"
    )
    assert found == expected and {right for right, _ in found} == {True, False}


# --- Pages -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chapter", ["index", "the_game", "choke"])
def test_the_example_that_stands_there_is_what_the_models_write(chapter: str) -> None:
    kind, name = re.search(r'data-play="(\w+)" data-problem="([^"]+)"', example(chapter)).groups()
    task = load_task(kind)
    problem = task.read_problem(name)
    texts = [
        unescape(re.sub("<[^>]+>", "", text)) for text in re.findall(r'eb-text">(.*?)</p>', example(chapter))
    ]
    rights = re.findall(r'<figure class="eb-completion eb-(right|wrong)"', example(chapter))
    assert name in [
        p.identifier for p in task.problems("test", NUM_PROBLEMS[kind], 0, BANDS[kind], distinct=True)
    ]
    assert [task.verify(text, problem).correct for text in texts] == [right == "right" for right in rights]
    for model, text in zip(MODELS[kind], texts, strict=True):
        opening = "" if model == "guesser" else "assume"
        bias = 4.0 if model == "searcher" else 0.0  # made to check
        of_game = {"bias": bias} if kind == "countdown" else {"opening": opening}
        assert written(f"{kind}/{model}", [problem], 420, **of_game) == [text]


@pytest.mark.browser
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_it_reads_well_before_and_after_it_is_pressed(
    chapter: str, still: Page, site: Callable[[str], str], axe: str
) -> None:
    found = findings(still, site(chapter), axe)
    press(still, "Turn" if CHAPTERS[chapter] == "dial" else "Play")
    if CHAPTERS[chapter] != "dial":
        press(still, "Watch")
    until(still, "[...document.querySelectorAll('[role=status]')].at(-1).textContent.length > 40")
    count = still.evaluate("document.querySelectorAll('.eb-completion figcaption').length")
    assert count == (1 if CHAPTERS[chapter] == "dial" else len(MODELS[CHAPTERS[chapter]]))
    for width, theme in ((NARROW, "dark"), (WIDE, "light")):
        still.resize(width)
        still.evaluate(f"document.documentElement.dataset.theme = '{theme}'; {SETTLED}")
        found += [f"wider by {wider} px" for wider in [still.evaluate(TOO_WIDE)] if wider > 0]
        found += still.evaluate(AXE)
    assert not found + reported(still)


@pytest.mark.browser
def test_keys_suffice_and_what_is_typed_stays_text(still: Page, site: Callable[[str], str]) -> None:
    still.open(site("index"))
    still.press("Tab", 9)
    still.press("Enter", 13)
    for typed, said in (
        (HOSTILE, "✗ “<” has no place there."),
        ("(10+8", "✗ A bracket"),
        ("10 + 8 + 5", "✗ That makes 23"),
    ):
        assert still.evaluate("document.activeElement.type") == "text", "where one types is focused"
        still.evaluate("document.activeElement.select()")
        still.send("Input.insertText", text=typed)
        still.press("Enter", 13)
        assert still.evaluate("document.querySelector('.eb-said').textContent").startswith(said)
    assert still.evaluate("window.hacked") is None
    assert still.evaluate("document.querySelectorAll('.eb-play img').length") == 0
    names = []
    for _ in range(4):
        still.press("Tab", 9)
        names.append(still.evaluate("document.activeElement.textContent || document.activeElement.type"))
    assert names == ["Submit", "checkbox", "Watch the models (2 MB)", "Another problem"]
    still.press("Tab", 9, shift=True)
    still.press(" ", 32)
    until(still, "document.querySelectorAll('.eb-completion figcaption:not(:empty)').length === 2")
    guess, search = still.evaluate(
        "[...document.querySelectorAll('.eb-text')].map((node) => node.textContent)"
    )
    assert guess.split()[-1] == "answer" and "check" not in guess and "check 30" in search
    heard = still.evaluate("[...document.querySelectorAll('[role=status]')].at(-1).textContent")
    assert f"The searcher wrote: {search.strip()}" in " ".join(heard.split())


@pytest.mark.browser
def test_the_dial_takes_searches_away_and_lets_them_come_back(
    still: Page, site: Callable[[str], str]
) -> None:
    still.open(site("why_rl_is_search"))
    press(still, "Turn")
    done = "/^\\\\d+ of 40/.test(document.querySelector('[role=status]').textContent)"
    counts = []
    for bias in ("0", "-13", "0"):
        still.evaluate(
            f"(() => {{ document.querySelector('[role=status]').textContent = ''; const slider = document.querySelector"
            f"('input'); slider.value = {bias}; slider.dispatchEvent(new Event('input')); }})()"
        )
        until(still, done.replace("\\\\", "\\"))
        counts.append(int(still.evaluate("document.querySelector('[role=status]').textContent").split()[0]))
    assert counts[0] == counts[2] > 0 == counts[1]
    assert reported(still) == []
