"""The stages speak to any language model: words, refusals, and SFT, GRPO and evaluation on models of real formats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from english_models import save_model
from extrabitter import jobs as execution
from extrabitter.training import grpo
from extrabitter.evaluation import natural_evaluate as natural_evaluation
from extrabitter import plan as pipeline
from extrabitter.models import hub as pretrained
from extrabitter.training import sft
from extrabitter.runs import find_runs, is_hub_id
from extrabitter.params import LanguageParameters, ParameterError, stage_parameters
from extrabitter.tasks.countdown.english import plain_prompt, render_question
from extrabitter.training.priming import documents_table, priming_documents, priming_traces
from extrabitter.digests import REPOSITORY
from extrabitter.tables import BEHAVIOURS, validate_table
from extrabitter.training.rewards import correct_reward, format_reward
from extrabitter.tasks.countdown import Problem, parse_trace
from extrabitter.tasks.wording import GRAMMAR, English, choose_wording, demonstrations, spoken
from miniature import write_yaml
from test_natural import tokenizer  # noqa: F401  (a fixture)

PROBLEM = Problem((3, 8, 9), 33)
RIGHT = "8 * 3 = 24, then 24 + 9 = 33. <answer> 8 * 3 + 9 </answer>"
WRONG = "8 + 3 = 11. <answer> 8 + 3 + 9 </answer>"
COLUMNS = {"numbers": [[3, 8, 9]], "target": [33]}
SIZES = {
    "grpo": {
        "num_steps": 2,
        "num_generations": 2,
        "per_device_train_batch_size": 4,
        "max_completion_length": 16,
    },
    "sft_priming": {
        "condition": "verification_backtracking",
        "num_steps": 2,
        "num_documents": 4,
        "per_device_train_batch_size": 4,
        "max_length": 700,
    },
    "behaviour_evaluation": {"num_problems": 2, "num_samples": 2, "max_k": 2, "max_completion_length": 16},
    "will_it_choke": {"num_problems": 2, "num_samples": 8, "max_completion_length": 16},
}


def asked(stage: str, model: str = "models/absent", **values: object) -> Any:
    name = "checkpoint" if stage == "behaviour_evaluation" else "init_from"
    common = {"run_dir": "unused", "arm": "arm", "seed": 0, name: model}
    return stage_parameters(stage, common | SIZES[stage] | values)


# Words.


def test_plain_text_and_conversation_say_the_same() -> None:
    shots = (("What?", "That."),)
    plain, chat = English("plain", shots), English("chat", shots)
    assert plain.prompt(PROBLEM) == plain_prompt(PROBLEM, shots)
    turns = chat.prompt(PROBLEM)
    assert [turn["content"] for turn in turns] == ["What?", "That.", render_question(PROBLEM)]
    trace = parse_trace("8 * 3 = 24 , 24 + 9 = 33 answer", PROBLEM)
    assert spoken(chat.demonstration(trace, PROBLEM)) == plain.demonstration(trace, PROBLEM)
    assert plain.verify(str(plain.demonstration(trace, PROBLEM)), PROBLEM).correct


@pytest.mark.parametrize(
    ("text", "correct", "formatted"),
    [(RIGHT, 1.0, 1.0), (WRONG, 0.0, 1.0), ("It is 33.", 0.0, 0.0), ("<script>9**99**99</script>", 0.0, 0.0)],
)
@pytest.mark.parametrize("as_turn", [False, True])
def test_rewards_judge_english_by_what_is_handed_in(
    text: str, correct: float, formatted: float, as_turn: bool
) -> None:
    completion = [{"role": "assistant", "content": text}] if as_turn else text
    wording = English("chat" if as_turn else "plain")
    assert correct_reward([completion], wording=wording, **COLUMNS) == [correct]
    assert format_reward([completion], wording=wording, **COLUMNS) == [formatted]
    # The grammar reads none of this.
    assert correct_reward([completion], **COLUMNS) == [0.0]


def test_a_completion_counts_up_to_where_it_goes_on_to_a_problem_of_its_own() -> None:
    gone_on = f"{WRONG}\n\nProblem: {render_question(PROBLEM)}\nSolution: {RIGHT}"
    measured = English("plain").measure(gone_on, PROBLEM, False)
    assert measured == English("plain").measure(WRONG, PROBLEM, False)
    assert measured != English("plain").measure(RIGHT, PROBLEM, False)


def test_demonstrations_in_the_grammar_are_the_priming_documents() -> None:
    traces = priming_traces("filler", 5, seed=3)
    assert demonstrations(GRAMMAR, traces) == priming_documents("filler", 5, seed=3)
    direct = priming_traces("direct", 5, seed=3)
    shown = documents_table("direct", demonstrations(English("chat"), direct))
    assert shown["prompt"].tolist() == [render_question(problem) for problem, _ in direct]
    assert shown["completion"].str.endswith("</answer>").all()
    with pytest.raises(ParameterError, match="as long as others in the grammar only"):
        demonstrations(English("chat"), traces)


# Refusals.


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"few_shot": 2}, "few_shot = 2: only with prompt 'plain' or 'chat'"),
        ({"revision": "v1"}, "revision = 'v1': only with prompt 'plain' or 'chat'"),
        ({"num_numbers": 2}, "num_numbers = 2: must be at least 3 with prompt 'grammar'"),
        ({"prompt": "plain", "masked_words": "check"}, "masked_words = 'check': only with prompt 'grammar'"),
        ({"prompt": "chat", "forced_search_share": 0.1}, "forced_search_share = 0.1: only with prompt"),
        ({"prompt": "latin"}, "prompt = 'latin': must be 'grammar', 'plain' or 'chat'"),
    ],
)
def test_what_one_language_lacks_is_refused_in_one_line(values: dict[str, object], message: str) -> None:
    with pytest.raises(ParameterError) as raised:
        asked("grpo", **values)
    assert message in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("shown", ["mixed", "filler", "incorrect", "aha"])
def test_examples_show_one_condition_that_exists(shown: str) -> None:
    with pytest.raises(ParameterError, match=f"shots_show = '{shown}': must be one of direct"):
        choose_wording(asked("grpo", prompt="plain", shots_show=shown))


def test_a_name_on_a_hub_is_one_only_in_english_and_where_no_folder_is() -> None:
    english, grammar = asked("grpo", prompt="plain"), asked("grpo")
    assert is_hub_id(english, "example/model")
    assert not is_hub_id(grammar, "example/model") and not is_hub_id(english, "models/absent")
    assert not is_hub_id(english, "models/missing") and not is_hub_id(english, "runs/missing")
    assert not is_hub_id(english, "../secret") and not is_hub_id(english, "a b/c")


# Models in the formats of others, through the stages.


@pytest.fixture(params=["qwen2", "llama"])
def theirs(request: pytest.FixtureRequest, tmp_path: Path, tokenizer) -> Path:  # noqa: F811
    """A random model of real architecture, in a folder as its makers would save it."""
    return save_model(tmp_path / "m", tokenizer, request.param)


def load(stage: str, folder: Path, **values: object) -> tuple[LanguageParameters, pretrained.Pretrained]:
    parameters = asked(stage, str(folder), **values)
    return parameters, pretrained.load_for_stage(
        parameters, str(folder), training=stage != "behaviour_evaluation"
    )


@pytest.mark.parametrize("style", ["plain", "chat"])
def test_sft_trains_on_the_words_of_the_answer_and_its_end(
    theirs: Path, style: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters, (model, its_tokenizer, _) = load("sft_priming", theirs, prompt=style)
    wording = choose_wording(parameters)
    documents = demonstrations(wording, priming_traces(parameters.condition, 4, seed=0))
    seen: list[dict[str, Any]] = []
    compute_loss = sft.TrimmedSFTTrainer.compute_loss

    def spy(self: Any, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        seen.append({name: values.clone() for name, values in inputs.items()})
        return compute_loss(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(sft.TrimmedSFTTrainer, "compute_loss", spy)
    losses = sft.prime(parameters, model, its_tokenizer, documents)
    assert len(losses) == 2 and losses["loss"].between(1, 10).all()
    trained = {}
    for ids, labels in zip(seen[0]["input_ids"], seen[0]["labels"], strict=True):
        answer = labels[labels != sft.IGNORED_LABEL].tolist()
        start = int((labels != sft.IGNORED_LABEL).int().argmax())
        trained[its_tokenizer.decode(ids[:start])] = its_tokenizer.decode(answer)
    end = "<|im_end|>"
    for document in documents:
        (prompt,) = pretrained.encode_prompts(its_tokenizer, [document["prompt"]])
        said = trained[its_tokenizer.decode(prompt)]
        assert said.strip().removesuffix(end) == spoken(document["completion"]).strip()
        assert said.strip().endswith(end)


@pytest.mark.parametrize("style", ["plain", "chat"])
def test_grpo_samples_rewards_and_measures_in_english(
    theirs: Path, style: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters, (model, its_tokenizer, _) = load(
        "grpo", theirs, prompt=style, format_weight=0.5, num_numbers=2
    )
    before = model.get_output_embeddings().weight.detach().clone()
    prompts: list[str] = []

    def every_other(completions: list[Any], wording: Any, **columns: Any) -> list[float]:
        assert isinstance(wording, English)
        prompts.extend(map(spoken, columns["prompts"]))
        return [float(index % 2) for index in range(len(completions))]

    every_other.__name__ = "correct_reward"
    monkeypatch.setattr(grpo, "correct_reward", every_other)
    steps = grpo.train(parameters, model, its_tokenizer)
    validate_table("steps", steps)
    assert all("Using the numbers" in prompt for prompt in prompts) and len(prompts) == 8
    assert steps[["hit_rate", "verdict_accuracy", "frac_well_formed"]].isna().all().all()
    assert (
        steps[["frac_searches", "mean_attempts", *(f"frac_with_{b}" for b in BEHAVIOURS)]].notna().all().all()
    )
    assert (model.get_output_embeddings().weight != before).any()


def test_both_rewards_are_paid_in_grpo(tmp_path: Path, tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """A sampler that says something right, something wrong and nothing shows through to the table's columns."""
    parameters, (model, its_tokenizer, _) = load(
        "grpo", save_model(tmp_path / "m", tokenizer), prompt="plain", num_steps=1
    )
    said = iter([RIGHT, WRONG, "Well.", "Well."])

    def rollout_func(_: Any) -> Any:
        def rollout(prompts: list[str], trainer: Any) -> dict[str, Any]:
            ids = [[*its_tokenizer(next(said))["input_ids"], its_tokenizer.eos_token_id] for _ in prompts]
            return {
                "prompt_ids": pretrained.encode_prompts(its_tokenizer, prompts),
                "completion_ids": ids,
                "logprobs": [[-1.0] * len(row) for row in ids],
            }

        return rollout

    monkeypatch.setattr(grpo, "batched_rollouts", rollout_func)
    monkeypatch.setattr(grpo, "generate_problems", lambda *_, **__: [PROBLEM] * 2)
    weighed = parameters.model_copy(update={"format_weight": 0.5})
    (step,) = grpo.train(weighed, model, its_tokenizer).to_dict("records")
    assert step["correct_reward"] == 0.25 and step["format_reward"] == 0.5 and step["reward"] == 0.5
    assert step["frac_informative_groups"] == 0.5


def test_evaluation_writes_its_own_table(tmp_path: Path, tokenizer) -> None:  # noqa: F811
    folder = save_model(tmp_path / "m", tokenizer)
    parameters, loaded = load("behaviour_evaluation", folder, prompt="chat", few_shot=1, num_numbers=2)
    completions = natural_evaluation.evaluate_natural(parameters, loaded)
    validate_table("natural_completions", completions)
    assert completions["num_numbers"].eq(2).all() and completions["prompt"].str.count("<answer>").ge(2).all()
    summary = natural_evaluation.natural_summary(completions)
    validate_table("summary", summary)
    assert summary["measure"].is_unique


def test_a_profile_takes_a_model_of_others_from_sft_to_grpo_and_evaluation(tmp_path: Path, tokenizer) -> None:  # noqa: F811
    (tmp_path / "notebooks").symlink_to(REPOSITORY / "notebooks")
    save_model(tmp_path / "theirs", tokenizer)
    english = {"prompt": "chat", "num_numbers": 2}
    stages = {
        "sft_priming": {"primed": {"init_from": "theirs"}},
        "grpo": {"rewarded": {"init_from": "sft_priming/primed"}},
        "behaviour_evaluation": {"after": {"checkpoint": "grpo/rewarded", "split": "validation"}},
        "will_it_choke": {"probe": {"checkpoint": "theirs"}},
    }
    profile = {
        "name": "theirs",
        "description": "A model of others.",
        "seeds": [0],
        "stages": {
            stage: {"defaults": SIZES[stage] | english, "arms": arms} for stage, arms in stages.items()
        },
    }
    write_yaml(tmp_path / "profiles" / "theirs.yaml", profile)
    plan = pipeline.make_plan("theirs", tmp_path)
    for key in plan.jobs:
        status = execution.run_job(plan, key)
        assert status.state == "ok", status.reason
    runs = {run.arm: run for run in find_runs(tmp_path / "runs" / "theirs")}
    assert {run.manifest["model"]["architecture"] for run in runs.values()} == {"Qwen2ForCausalLM"}
    assert runs["after"].manifest["model"]["dtype"] == "float32"
    assert set(runs["probe"].table("informative_groups")["num_generations"]) == {8}
    tables = [run.table("summary") for run in runs.values() if run.stage == "behaviour_evaluation"]
    assert pd.concat(tables).set_index("measure").at["pass@1", "count"] == 4


def test_a_missing_hub_model_fails_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "notebooks").symlink_to(REPOSITORY / "notebooks")
    profile = {
        "name": "absent",
        "description": "A model that is not there.",
        "seeds": [0],
        "stages": {
            "behaviour_evaluation": {
                "arms": {"base": {"checkpoint": "example/model", "prompt": "plain", "split": "validation"}}
            }
        },
    }
    write_yaml(tmp_path / "profiles" / "absent.yaml", profile)
    plan = pipeline.make_plan("absent", tmp_path)
    status = execution.run_job(plan, "behaviour_evaluation/base/seed=0")
    assert status.state == "failed"
    assert "run `hf download example/model --revision main`" in status.reason
