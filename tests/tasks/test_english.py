"""Countdown in natural English: prompts, answers that are handed in and those that only look so, and real formats."""

from __future__ import annotations

import json
import random
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from english_models import build_tokenizer, save_model
from extrabitter import cli
from extrabitter.tasks.countdown import english as natural
from extrabitter.evaluation import natural_probe
from extrabitter.models import hub as pretrained
from extrabitter.evaluation import report as probe_report
from extrabitter.tasks.countdown.census import take_census
from extrabitter.behaviours.agreement import read_scores
from extrabitter.evaluation.evaluate import summary_table
from extrabitter.statistics import wilson_interval
from extrabitter.models.tiny import CheckpointError
from extrabitter.tasks.countdown.english import extract_answer, verify_completion
from extrabitter.evaluation.natural_evaluate import natural_summary, sample_natural
from extrabitter.training.priming import CONDITIONS
from extrabitter.tables import BEHAVIOURS
from extrabitter.models.rollouts import SamplingParameters
from extrabitter.tasks.countdown.equations import MAX_CHARACTERS
from extrabitter.tasks import countdown
from extrabitter.tasks.countdown import Problem, TraceCondition
from extrabitter.tasks.wording import English
from test_judge import Stub, stub, verdict  # noqa: F401  (a fixture)

PROBLEM = Problem((3, 8, 9), 33)
SAMPLING = SamplingParameters(max_completion_length=24)


# Answers.


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<answer> 3 * 8 + 9 </answer>", "correct"),
        ("<answer>(3 × 8) + 9 = 33</answer>", "correct"),
        ("<answer>33 = 9 + 3 · 8.</answer>", "correct"),
        ("<ANSWER>\n$3 \\times 8 + 9$\n</ANSWER>", "correct"),
        ("So \\boxed{3 \\times 8 + 9}.", "correct"),
        ("So \\boxed{\\text{3 * 8 + 9}}.", "correct"),
        ("The answer is 3 * 8 + 9.", "correct"),
        ("**Answer:** `3*8+9`", "correct"),
        ("Final answer: 3x8+9, which makes 33", "correct"),
        ("<answer> 99 / 3 </answer>", "number_not_available"),
        ("<answer> 3 * 8 </answer>", "numbers_unused"),
        ("<answer> 3 + 8 + 9 </answer>", "wrong_value"),
        ("<answer> 33 </answer>", "number_not_available"),
        ("<answer> 3 * (8 + 9 </answer>", "syntax_error"),
        ("<answer> 9 ** 99 ** 99 </answer>", "syntax_error"),
        ("<answer> __import__('os') </answer>", "no_answer"),
        ("<answer> 9 / (8 - 8) + 3 </answer>", "division_by_zero"),
        # What is not handed in is no answer, however right.
        ("3 * 8 + 9 = 33", "no_answer"),
        ("Let me try 3 * 8 = 24, then 24 + 9 = 33", "no_answer"),
        ("", "no_answer"),
        ("I give the expression between <answer> and </answer>.", "no_answer"),
        # The last one that is handed in counts; an open one was cut.
        ("<answer> 3 + 8 + 9 </answer> No: <answer> 3 * 8 + 9 </answer>", "correct"),
        ("<answer> 3 * 8 + 9 </answer> No: <answer> 3 + 8 + 9 </answer>", "wrong_value"),
        ("<answer> 3 * 8 + 9 </answer> But wait, <answer> 3 +", "open_answer"),
        ("<answer> 3 * 8 + 9", "open_answer"),
        ("<think> <answer> 3 + 8 + 9 </answer> </think> <answer> 3 * 8 + 9 </answer>", "correct"),
        ("<think> <answer> 3 * 8 + 9 </answer> </think> I do not know.", "no_answer"),
        # Tags go before boxes, boxes before words.
        ("<answer> 3 * 8 + 9 </answer> The answer is 7.", "correct"),
        ("\\boxed{3 * 8 + 9} The answer is 7.", "correct"),
        # A base model goes on with a problem of its own.
        ("The answer is 3 * 8 + 9.\nProblem: 1, 2 -> 3\nSolution: <answer> 1 + 2 </answer>", "correct"),
        # Last lines that look like answers.
        ("<answer> 3 * 8 + 9 </answer>\nCheck: 3 * 8 = 24 and 24 + 9 = 33.", "correct"),
        ("I could not find it.\n3 + 8 + 9 = 20", "no_answer"),
        ("x" * (MAX_CHARACTERS + 1), "not_read"),
        (None, "not_read"),
    ],
)
def test_what_is_handed_in_is_judged_and_nothing_else(text: object, reason: str) -> None:
    verdict = verify_completion(text, PROBLEM)
    assert verdict.reason == reason and verdict.correct == (reason == "correct")
    assert reason in natural.REASONS


@settings(max_examples=300, deadline=2_000)
@given(
    st.lists(
        st.sampled_from(
            [
                *"389*+()=x$}{\n",
                *("33", "99999999", "<answer>", "</answer>", "</think>", "answer:", "answer is"),
                *("Problem:", "\\boxed{", "\\frac{"),
            ]
        ),
        max_size=60,
    )
)
def test_no_completion_breaks_the_reader(words: list[str]) -> None:
    verdict = verify_completion(" ".join(words), PROBLEM)
    assert verdict.reason in natural.REASONS


@pytest.mark.parametrize(
    "piece", ["<answer>", "\\boxed{", "answer is 3 ", "{", "<answer> </answer>", "answer: " * 3]
)
def test_work_is_bounded(piece: str) -> None:
    text = (piece * MAX_CHARACTERS)[:MAX_CHARACTERS]
    assert extract_answer(text).reason in ("no_answer", "open_answer", "ok")


def test_an_answer_cut_anywhere_is_never_another_right_answer() -> None:
    text = "3 + 8 = 11. No. 3 * 8 = 24, 24 + 9 = 33. <answer> 3 * 8 + 9 </answer>"
    reasons = [verify_completion(text[:length], PROBLEM).reason for length in range(len(text) + 1)]
    assert reasons[-1] == "correct" and "correct" not in reasons[:-1]
    assert set(reasons[:-1]) == {"no_answer", "open_answer"}


# Prompts and worked examples.


def test_plain_prompt_shows_examples_and_stops_where_the_model_goes_on() -> None:
    shots = natural.examples(2, seed=1, condition=CONDITIONS["direct"].trace)
    prompt = natural.plain_prompt(PROBLEM, shots)
    assert prompt.count("Problem: ") == 3 and prompt.endswith("Solution:")
    assert prompt.split("Problem: ")[-1].startswith(natural.render_question(PROBLEM))
    assert natural.cut_completion(" It is 3.\n\nProblem: more\nSolution: 4") == " It is 3.\n"


def test_chat_has_examples_as_earlier_turns() -> None:
    messages = natural.chat_messages(PROBLEM, natural.examples(1, 1, CONDITIONS["direct"].trace))
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]


@pytest.mark.parametrize("condition", ["direct", "verification_backtracking", "all_behaviours"])
def test_examples_are_solved_training_problems_that_show_their_condition(condition: str) -> None:
    for question, solution in natural.examples(20, seed=2, condition=CONDITIONS[condition].trace):
        *numbers, target = map(int, re.findall(r"\d+", question))
        problem = Problem(tuple(numbers), target)
        assert countdown.split_of(problem.numbers) == "train"
        assert verify_completion(solution, problem).correct
        assert take_census(solution, problem.numbers, problem.target).shows("verification") == (
            condition != "direct"
        )


def test_a_trace_in_words_is_judged_like_the_trace_and_shows_its_behaviours() -> None:
    rng = random.Random(0)
    condition = TraceCondition(
        verification=True, backtracking=True, subgoal_setting=True, restart_probability=0.5, max_attempts=4
    )
    reasons = set()
    for problem in countdown.generate_problems("train", 60, seed=3, num_numbers=4):
        trace = countdown.write_trace(problem, condition, rng)
        words = natural.render_solution(trace, problem)
        expected = countdown.verify_completion(countdown.render_trace(trace, problem), problem).reason
        assert verify_completion(words, problem).reason == expected
        reasons.add(expected)
        census = take_census(words, problem.numbers, problem.target)
        assert census.shows("verification")
        assert census.shows("backtracking") == (len(trace.attempts) > 1)
    assert reasons == {"correct", "wrong_value"}


# Models in the formats of others: tiny, random, with a tokenizer of subwords.


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


@pytest.mark.parametrize("architecture", ["qwen2", "llama"])
@pytest.mark.parametrize("style", ["plain", "chat"])
def test_a_model_of_others_is_loaded_prompted_and_measured(
    tmp_path: Path, tokenizer, architecture: str, style: str
) -> None:
    loaded = pretrained.load_pretrained(str(save_model(tmp_path / "m", tokenizer, architecture)))
    assert loaded.record["dtype"] == "float32" and loaded.record["device"] == "cpu"
    assert loaded.record["has_chat_template"] and loaded.tokenizer.pad_token_id is not None
    shots = natural.examples(1, 1, CONDITIONS["direct"].trace)
    wording = English(style, shots)
    completions = sample_natural(loaded, [PROBLEM, Problem((1, 2, 5), 8)], 3, SAMPLING, 0, wording)
    assert completions["problem"].tolist() == ["3-8-9:33"] * 3 + ["1-2-5:8"] * 3
    assert completions["truncated"].any() and not completions["correct"].any()
    again = sample_natural(loaded, [PROBLEM, Problem((1, 2, 5), 8)], 3, SAMPLING, 0, wording)
    assert again["completion"].tolist() == completions["completion"].tolist()
    summary = natural_summary(completions).set_index("measure")
    assert {f"frac_with_{behaviour}" for behaviour in BEHAVIOURS} < set(summary.index)
    assert summary.at["pass@1", "value"] == 0 and summary.at["pass@1", "count"] == 6


def test_the_chat_template_writes_special_tokens_once(tokenizer) -> None:
    conversation = English("chat").prompt(PROBLEM)
    text = pretrained.render_chat(tokenizer, conversation)
    first, ids = pretrained.encode_prompts(tokenizer, ["1 + 2", conversation])
    assert tokenizer.decode(first) == "1 + 2"
    assert text.startswith("<|im_start|>user\nUsing the numbers") and text.endswith("<|im_start|>assistant\n")
    starts = tokenizer.convert_tokens_to_ids("<|im_start|>")
    assert ids.count(starts) == 2
    assert tokenizer.decode(ids) == text


def test_chat_without_a_template_and_with_a_broken_one_are_one_line(tokenizer) -> None:
    import copy

    bare = copy.deepcopy(tokenizer)
    bare.chat_template = None
    with pytest.raises(CheckpointError, match="no chat template; use 'plain'"):
        pretrained.encode_prompts(bare, [English("chat").prompt(PROBLEM)])
    bare.chat_template = "{{ raise_exception('no\nsystem') }}"
    with pytest.raises(CheckpointError, match=r"the chat template fails \(no\)"):
        pretrained.encode_prompts(bare, [English("chat").prompt(PROBLEM)])


def test_a_prompt_longer_than_the_model_reads_is_refused(tmp_path: Path, tokenizer) -> None:
    folder = save_model(tmp_path / "m", tokenizer, max_position_embeddings=64)
    with pytest.raises(CheckpointError, match="more than the model's 64"):
        sample_natural(pretrained.load_pretrained(str(folder)), [PROBLEM], 1, SAMPLING, 0, English("plain"))


def test_dtype_and_device_are_resolved_or_refused(tmp_path: Path, tokenizer) -> None:
    folder = str(save_model(tmp_path / "m", tokenizer))
    assert pretrained.load_pretrained(folder, dtype="bfloat16").model.dtype == torch.bfloat16
    for changes, message in (
        ({"dtype": "int8"}, "dtype = 'int8'"),
        ({"device": "tpu"}, "device = 'tpu'"),
        ({"device": "cuda:0"}, "device = 'cuda:0': not there")
        if not torch.cuda.is_available()
        else ({"device": "x"}, "x"),
        ({"revision": "main"}, "a folder has no revision"),
    ):
        with pytest.raises(CheckpointError, match=message):
            pretrained.load_pretrained(folder, **changes)


def test_pickles_and_code_are_refused(tmp_path: Path, tokenizer) -> None:
    folder = save_model(tmp_path / "m", tokenizer)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModelForCausalLM": "m.M"}}))
    with pytest.raises(CheckpointError, match="needs code of its own"):
        pretrained.load_pretrained(str(folder))
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"no \*.safetensors"):
        pretrained.load_pretrained(str(folder))


def test_a_damaged_model_is_one_line(tmp_path: Path, tokenizer) -> None:
    folder = save_model(tmp_path / "m", tokenizer)
    (folder / "model.safetensors").write_bytes(b"\x00" * 40)
    with pytest.raises(CheckpointError, match="cannot be loaded") as raised:
        pretrained.load_pretrained(str(folder))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("reference", ["nowhere", "/no/such/folder", "a b/c", "../x"])
def test_what_is_neither_folder_nor_id_is_one_line(reference: str) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint there"):
        pretrained.load_pretrained(reference)


def test_an_id_that_is_not_cached_says_how_to_get_it(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match="hf download example/model --revision v1"):
        pretrained.load_pretrained("example/model", revision="v1")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("GatedRepoError", "gated; accept its terms on https://huggingface.co/example/model"),
        ("RepositoryNotFoundError", "no such model, or a private one"),
        ("RevisionNotFoundError", "there is no such revision"),
        ("LocalEntryNotFoundError", "cannot be fetched"),
    ],
)
def test_refusals_of_the_hub_are_one_line_that_says_what_to_do(monkeypatch, name: str, message: str) -> None:
    from huggingface_hub import errors

    kind = getattr(errors, name)
    error = kind.__new__(kind)
    Exception.__init__(error, "first line\nsecond line")

    def refuse(*_: object, **__: object) -> str:
        raise error

    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(CheckpointError, match=message) as raised:
        pretrained.load_pretrained("example/model")
    assert "\n" not in str(raised.value)


def test_an_id_in_the_cache_is_loaded_and_its_commit_recorded(monkeypatch, tmp_path: Path, tokenizer) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    folder = save_model(tmp_path / commit, tokenizer)
    asked: dict[str, object] = {}

    def cached(hub_id: str, **options: object) -> str:
        asked.update(options, hub_id=hub_id)
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", cached)
    loaded = pretrained.load_pretrained("example/model", revision="v1")
    assert loaded.record["commit"] == commit and loaded.record["revision"] == "v1"
    assert asked["local_files_only"] is True and asked["revision"] == "v1"
    assert not any(pattern.endswith((".bin", ".py", ".pt")) for pattern in asked["allow_patterns"])


# The probe of a model of others, by its command.


def run_command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["extrabitter", "probe", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tokenizer) -> str:
    return str(save_model(tmp_path_factory.mktemp("models") / "m", tokenizer))


SMALL = ("--problems", "3", "--samples", "2", "--cap", "12")


def rows_below(report: str, title: str) -> dict[str, str]:
    """Return the rows of a report's table by their first word."""
    (block,) = [block for block in report.split("\n\n") if block.startswith(title)]
    return {line.split()[0]: line for line in block.splitlines()[1:]}


def test_the_probe_prints_behaviours_beside_the_errors_of_the_census(
    folder: str, monkeypatch, capsys
) -> None:
    assert run_command(monkeypatch, folder, "--prompt", "chat", *SMALL, "--few-shot", "1") == 0
    text = capsys.readouterr().out
    scores = read_scores().set_index(["set", "detector", "behaviour", "measure"])
    lines = rows_below(text, "completions that show a behaviour")
    for behaviour in BEHAVIOURS:
        for measure in ("precision", "recall"):
            value, lower, upper = scores.loc[
                ("test", "census", behaviour, measure), ["value", "lower", "upper"]
            ]
            assert f"{value:.2f} ({lower:.2f} to {upper:.2f})" in lines[behaviour]
        assert lines[behaviour].endswith(f"{scores.at[('test', 'census', behaviour, 'F1'), 'value']:.2f}")
    assert max(len(line) for block in text.split("\n\n")[1:] for line in block.splitlines()) <= 110
    assert (
        "chat prompt, 1 examples (direct)" in text
        and "forecast: none: it is calibrated" in text
        and "advice: none" in text
    )
    assert "Qwen2ForCausalLM" in text and "float32 on cpu" in text


def test_the_probe_in_english_prints_json_and_the_gate_never_opens(folder: str, monkeypatch, capsys) -> None:
    assert run_command(monkeypatch, folder, "--prompt", "plain", *SMALL, "--json", "--gate") == 3
    value = json.loads(capsys.readouterr().out)
    assert value["parameters"]["prompt"] == "plain" and value["model"]["dtype"] == "float32"
    assert [row["k"] for row in value["pass_at_k"]] == [1, 2]
    assert {row["behaviour"] for row in value["census_scores"]} > set(BEHAVIOURS)
    assert {f"contrast_{behaviour}" for behaviour in BEHAVIOURS} < {
        row["measure"] for row in value["summary"]
    }
    assert "no effect" in value["contrast"] and value["judge"] is None


def counted(*rows: tuple[str, bool, int]) -> pd.DataFrame:
    """Completions as (problem, right, verifications), without other behaviours."""
    table = pd.DataFrame(rows, columns=["problem", "correct", "verification_count"])
    return table.assign(**{f"{behaviour}_count": 0 for behaviour in BEHAVIOURS[1:]})


def test_a_contrast_is_success_with_a_behaviour_minus_success_without() -> None:
    rows = [("a", True, 1), ("a", False, 2), ("a", True, 0), ("b", False, 1), ("b", True, 0), ("b", False, 0)]
    found = natural_probe.contrasts(counted(*rows)).set_index("measure")
    assert found.at["success_given_verification", "value"] == pytest.approx(1 / 3)
    assert found.at["success_given_no_verification", "value"] == pytest.approx(2 / 3)
    contrast = found.loc["contrast_verification"]
    assert contrast["value"] == pytest.approx(-1 / 3) and contrast["count"] == 6
    # Resampled by problem: either one twice, or each once.
    assert (contrast["lower"], contrast["upper"]) == pytest.approx((-1 / 2, -1 / 3))
    assert natural_probe.contrasts(counted(*rows)).equals(found.reset_index())


@pytest.mark.parametrize("count", [0, 1])
def test_a_contrast_with_an_empty_side_is_missing(count: int) -> None:
    found = natural_probe.contrasts(counted(("a", True, count), ("b", False, count))).set_index("measure")
    assert found.loc["contrast_verification", ["value", "lower", "upper"]].isna().all()


def test_problems_that_agree_leave_a_contrast_as_uncertain_as_they_are_few() -> None:
    rows = [(problem, False, count) for problem in "abc" for count in (0, 1)]
    contrast = natural_probe.contrasts(counted(*rows)).set_index("measure").loc["contrast_verification"]
    room = wilson_interval(0, 3).upper
    assert contrast[["value", "lower", "upper"]].tolist() == pytest.approx([0, -room, room])
    # One completion alone, and wrong, where half of the others are right: that is no sure loss.
    rows = [("a", False, 1), *((problem, right, 0) for problem in "bcdefgh" for right in (False, True))]
    contrast = natural_probe.contrasts(counted(*rows)).set_index("measure").loc["contrast_verification"]
    assert contrast["value"] == -0.5 and contrast["lower"] < -0.6 and contrast["upper"] > 0.2


@pytest.mark.parametrize("right", [True, False])
def test_one_completion_alone_leaves_success_with_its_behaviour_open(right: bool) -> None:
    rows = [("a", right, 1), *((problem, other, 0) for problem in "abcde" for other in (False, True))]
    ends = ["value", "lower", "upper"]
    found = natural_probe.contrasts(counted(*rows)).set_index("measure")[ends]
    assert found.loc["success_given_verification"].tolist() == pytest.approx(
        list(wilson_interval(int(right), 1))
    )
    assert found.loc["success_given_no_verification"].tolist() == pytest.approx(list(wilson_interval(2.5, 5)))
    # Problems that differ leave the bootstrap as it is, which sees their spread.
    mixed = counted(*rows, ("a", True, 0))
    plain = summary_table(mixed, 0, natural_probe._success_by("verification")).set_index("measure")[ends]
    both = natural_probe.contrasts(mixed).set_index("measure")[ends]
    name = "success_given_no_verification"
    assert both.loc[name].tolist() == plain.loc[name].tolist()
    assert found.loc["success_given_backtracking"].isna().all()


@pytest.mark.parametrize("chance", [0.02, 0.4, 0.98])
def test_the_interval_of_a_contrast_covers_it_as_often_as_it_says(chance: float) -> None:
    rng, covered, repeats = np.random.default_rng(0), 0, 200
    values, widths = [], []
    for _ in range(repeats):
        rows = []
        for problem in range(40):
            ease = rng.uniform(-0.2, 0.2)
            for _ in range(8):
                shows = rng.random() < chance
                rows.append((str(problem), rng.random() < 0.5 - 0.2 * shows + ease, int(shows)))
        contrast = natural_probe._contrast(counted(*rows), "verification", rng)
        covered += contrast.lower <= -0.2 <= contrast.upper
        values.append(contrast.value)
        widths.append(contrast.upper - contrast.lower)
    assert covered / repeats > 0.88, covered
    width, needed = np.nanmean(widths), 2 * 1.96 * np.nanstd(values)
    assert 0.8 < width / needed < 1.1, (width, needed)


def test_contrasts_are_printed_as_no_effect(folder: str, monkeypatch, capsys) -> None:
    assert run_command(monkeypatch, folder, "--prompt", "plain", *SMALL) == 0
    text = capsys.readouterr().out
    assert natural_probe.CONTRAST in text
    lines = rows_below(text, "success with a behaviour, and without")
    assert set(BEHAVIOURS) < set(lines)
    assert lines["subgoal_setting"].split()[-1] == "-", "a random model never shows it"


# The judge beside the census.


def test_what_was_not_judged_is_in_no_share() -> None:
    completions = counted(("a", True, 1), ("a", True, 0), ("b", True, 2), ("b", True, 1))
    judgements = pd.DataFrame({"reason": ["ok", "ok", "ok", "not_json"]})
    for behaviour in BEHAVIOURS:
        judgements[behaviour] = pd.array([2, 0, 0, pd.NA], dtype="Int64")
    judged = natural_probe.judged_shares(completions, judgements, "m")
    assert judged.shares["behaviour"].tolist() == list(BEHAVIOURS) and judged.missing == {"not_json": 1}
    assert judged.shares["value"].tolist() == pytest.approx([1 / 3] * 4)
    assert judged.shares["count"].tolist() == [3] * 4
    assert judged.census["value"].tolist() == pytest.approx([2 / 3, 0, 0, 0])
    assert judged.census["count"].tolist() == [3] * 4
    none = natural_probe.judged_shares(completions, judgements.assign(reason="not_json"), "m")
    assert none.shares["value"].isna().all() and none.missing == {"not_json": 4}
    assert none.census["value"].isna().all()
    assert json.dumps(none.as_json(), allow_nan=False)


def judge_options(stub: Stub, cache: Path) -> tuple[str, ...]:  # noqa: F811
    address = f"http://127.0.0.1:{stub.server_address[1]}/v1"
    return ("--judge-url", address, "--judge-model", "stub-1", "--judge-cache", str(cache))


def test_the_judges_shares_stand_beside_the_census_and_are_asked_for_once(
    folder: str,
    stub: Stub,  # noqa: F811
    tmp_path: Path,
    monkeypatch,
    capsys,
) -> None:
    stub.replies = [verdict(), "?", *[verdict()] * 6]  # the first is asked for before anything is sampled
    options = (folder, "--prompt", "plain", *SMALL, *judge_options(stub, tmp_path / "cache"))
    monkeypatch.setenv("STUB_KEY", "secret-value")
    assert run_command(monkeypatch, *options, "--judge-key-env", "STUB_KEY") == 0
    text = capsys.readouterr().out
    lines = rows_below(text, "the same by the judge stub-1")
    for behaviour in BEHAVIOURS:
        assert lines[behaviour].split()[1:6] == ["0.0", "%", "0.0", "to", "0.0"]
    assert "5 of 6 completions judged; missing: 1 not json" in text and probe_report.QUOTE_BIAS not in text
    assert max(len(line) for block in text.split("\n\n")[1:] for line in block.splitlines()) <= 110
    assert len(stub.seen) == 7 and {request["key"] for request in stub.seen} == {"Bearer secret-value"}
    assert run_command(monkeypatch, *options, "--json") == 0
    value = json.loads(capsys.readouterr().out)["judge"]
    assert len(stub.seen) == 8, "read from the cache, but for the check"
    assert value["model"] == "stub-1" and value["missing"] == {"not_json": 1}
    for name in ("shares", "census"):
        assert [(row["behaviour"], row["value"], row["count"]) for row in value[name]] == [
            (behaviour, 0.0, 5) for behaviour in BEHAVIOURS
        ]


def test_quotes_that_are_missing_bias_the_judges_shares_and_the_report_says_so(
    folder: str,
    stub: Stub,  # noqa: F811
    tmp_path: Path,
    monkeypatch,
    capsys,
) -> None:
    sample = natural_probe.sample_natural

    def verifying(*arguments: object) -> pd.DataFrame:
        return sample(*arguments).assign(verification_count=[1, 0, 0, 0, 0, 0])

    monkeypatch.setattr(natural_probe, "sample_natural", verifying)
    stub.replies = [verdict(), verdict(verification=(1, "words of its own")), *[verdict()] * 5]
    options = judge_options(stub, tmp_path / "cache")
    assert run_command(monkeypatch, folder, "--prompt", "plain", *SMALL, *options) == 0
    text = capsys.readouterr().out
    assert f"missing: 1 quote not in text\n  {probe_report.QUOTE_BIAS}\n" in text
    lines = rows_below(text, "the same by the judge stub-1")
    assert lines["verification"].split()[1:] == ["0.0", "%", "0.0", "to", "0.0"] * 2, (
        "the census of the judged"
    )
    assert rows_below(text, "completions that show a behaviour")["verification"].split()[1] == "16.7"
    assert max(len(line) for block in text.split("\n\n")[1:] for line in block.splitlines()) <= 110


def test_a_judge_that_refuses_is_found_out_before_anything_is_sampled(
    folder: str,
    stub: Stub,  # noqa: F811
    tmp_path: Path,
    monkeypatch,
    capsys,
) -> None:
    stub.replies = [401]
    monkeypatch.setattr(natural_probe, "probe_natural", None)  # would fail if it were called
    options = judge_options(stub, tmp_path / "cache")
    assert run_command(monkeypatch, folder, "--prompt", "plain", *SMALL, *options) == 1
    error = capsys.readouterr().err
    assert "answers 401" in error and error.count("\n") == 1


@pytest.mark.parametrize("form", [[], ["--json"], ["--gate"]])
def test_a_judge_that_fails_after_the_sampling_leaves_the_report(
    folder: str,
    stub: Stub,  # noqa: F811
    tmp_path: Path,
    monkeypatch,
    capsys,
    form: list[str],
) -> None:
    stub.replies = [verdict(), verdict(), 401]
    options = judge_options(stub, tmp_path / "cache")
    assert run_command(monkeypatch, folder, "--prompt", "plain", *SMALL, *options, *form) == 1
    printed = capsys.readouterr()
    assert "answers 401" in printed.err and printed.err.count("\n") == 1
    if form == ["--json"]:
        value = json.loads(printed.out)
        assert value["judge"] is None and value["pass_at_k"]
    else:
        assert "pass@k" in printed.out and "forecast: none" in printed.out
        assert "by the judge" not in printed.out


JUDGE = ("--judge-url", "http://127.0.0.1:9/v1", "--judge-model", "m")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prompt", "poem"], "prompt = 'poem': must be 'plain' or 'chat'"),
        (["--few-shot", "2"], "few_shot: only for natural English"),
        (["--dtype", "bfloat16"], "dtype and device: only for natural English"),
        (["--prompt", "plain", "--shots-show", "aha"], "shots_show = 'aha'"),
        (["--prompt", "plain", "--revision", "v1"], "a folder has no revision"),
        (["--prompt", "plain", *JUDGE[:2]], "judge_model: missing; it must be given with judge_url"),
        (["--prompt", "plain", *JUDGE[2:]], "judge_url: missing; it must be given with judge_model"),
        (
            ["--prompt", "plain", "--judge-cache", "c"],
            "judge_url: missing; it must be given with judge_cache",
        ),
        (["--prompt", "plain", "--judge-url", "localhost", *JUDGE[2:]], "base_url = 'localhost'"),
        (
            ["--prompt", "plain", "--judge-url", "http://u:sk-1@host/v1", *JUDGE[2:]],
            "base_url: must not hold a user or password",
        ),
        (["--prompt", "plain", *JUDGE, "--judge-key-env", "sk-1"], "judge_key_env: must name an environment"),
        ([*JUDGE], "judge_url, judge_model: only for natural English; give --prompt plain or chat"),
        ([], "lacks words of the Countdown grammar"),
    ],
)
def test_wrong_options_are_one_line(
    folder: str, monkeypatch, capsys, arguments: list[str], message: str
) -> None:
    assert run_command(monkeypatch, folder, *arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert "sk-1" not in error, "it may be the key itself"
