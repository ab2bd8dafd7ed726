"""Numbers become honest strings, glue has the form the book reads, and pages name what failed."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from extrabitter.pages import chapter as reporting
from extrabitter.runs import collect_table, find_runs
from extrabitter.claims import collect_claims
from extrabitter.estimates import MISSING, Estimate, of_difference, of_measure, over_seeds
from extrabitter.pages.plots import arm_label
from extrabitter.experiments.predictions import Prediction, Region, read_predictions
from extrabitter.scorecard import (
    ESSAY_CLAIMS,
    LEFT_OPEN,
    NOT_RUN,
    count_verdicts,
    essay_table,
    replication,
    replication_strings,
    scorecard,
    scorecard_strings,
)
from extrabitter.experiments.verdicts import Claim, together, verdict_strings, verdict_table
from synthetic_results import completions_table, summary_table, write_results, write_run


@pytest.fixture(scope="module")
def one_seed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_results(tmp_path_factory.mktemp("one"), num_problems=12)


@pytest.fixture(scope="module")
def three_seeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_results(tmp_path_factory.mktemp("three"), seeds=(0, 1, 2), num_problems=12)


@pytest.fixture(scope="module")
def with_failures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    failed = [("grpo", "grpo_rich", 0), ("behaviour_evaluation", "grpo_rich", 0)]
    return write_results(tmp_path_factory.mktemp("failed"), failed=failed, num_problems=12)


def completions_of(results: Path) -> pd.DataFrame:
    runs = find_runs(results, "behaviour_evaluation")
    tables = [run.table("completions").assign(arm=run.arm, seed=run.seed) for run in runs]
    return pd.concat(tables, ignore_index=True)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (reporting.percent(0.12345), "12.3 %"),
        (reporting.percent(math.nan), "not measured"),
        (reporting.points(0.0), "0.0 points"),
        (reporting.points(0.0004), "0.0 points"),
        (reporting.points(-0.1), "−10.0 points"),
        (reporting.points(0.1), "+10.0 points"),
        (reporting.decimal(-0.001), "0.00"),
        (reporting.percent_interval(Estimate(0.5, 0.4, 0.6, 3)), "50.0 % (40.0 to 60.0)"),
        (reporting.points_interval(Estimate(-0.1, -0.2, 0.05, 1)), "−10.0 points (−20.0 to 5.0)"),
        (reporting.percent_interval(MISSING), "not measured"),
        (reporting.decimal_interval(Estimate(2.0, 1.5, math.inf, 3)), "2.00 (at least 1.50)"),
        (reporting.percent_interval(Estimate(0.5, math.nan, math.nan, 1)), "50.0 %"),
        (reporting.spell(1, "seed"), "one seed"),
        (reporting.spell(0, "run"), "no runs"),
        (reporting.spell(51, "run"), "51 runs"),
    ],
)
def test_numbers_are_written_with_sign_unit_and_interval(written: str, expected: str) -> None:
    assert written == expected


@pytest.mark.parametrize(
    ("num_seeds", "words"),
    [(0, "no complete run"), (1, "over problems"), (3, "exploratory, three seeds"), (5, "five seeds; 95 %")],
)
def test_the_basis_of_a_number_names_its_seeds(num_seeds: int, words: str) -> None:
    assert words in reporting.basis(num_seeds)
    assert ("exploratory" in reporting.basis(num_seeds)) == (0 < num_seeds < reporting.CLAIM_SEEDS)


@pytest.mark.parametrize(
    ("seeds", "words"),
    [
        ({}, "no complete run"),
        ({"rich": 5, "absent": 5}, "five seeds; 95 % interval over seeds"),
        ({"rich": 1, "absent": 1}, "exploratory, one seed; 95 % interval over problems"),
        (
            {"rich": 5, "absent": 3},
            "three to five seeds an arm, exploratory below five; 95 % interval over seeds",
        ),
        (
            {"rich": 5, "absent": 1},
            "one to five seeds an arm, exploratory below five; 95 % interval over seeds; over problems where there is "
            "one seed",
        ),
    ],
)
def test_the_basis_of_a_figure_names_the_seeds_of_all_its_arms(seeds: dict[str, int], words: str) -> None:
    rows = [(arm, seed) for arm, number in seeds.items() for seed in range(number)]
    assert reporting.basis_of(pd.DataFrame(rows, columns=["arm", "seed"])) == words


def test_the_basis_of_a_summary_counts_the_completions_behind_one_arm_and_seed() -> None:
    rows = [("rich", seed, "pass@1", 4800) for seed in range(5)] + [("rich", 0, "hit_rate", 9)]
    summary = pd.DataFrame(rows, columns=["arm", "seed", "measure", "count"])
    assert reporting.basis_of(summary).endswith("over seeds; 4,800 completions an arm and seed")
    summary.loc[0, "count"] = 320
    assert reporting.basis_of(summary).endswith("over seeds; 320 to 4,800 completions an arm and seed")
    assert "completions" not in reporting.basis_of(summary[summary["measure"] == "hit_rate"])


def test_glue_has_the_form_that_the_book_reads() -> None:
    InteractiveShell.instance()
    with capture_output() as captured:
        reporting.glue_text("rich_after", "63.5 % (it's an “interval”)")
    (output,) = captured.outputs
    assert output.metadata["scrapbook"] == {"name": "rich_after", "mime_prefix": reporting.GLUE_PREFIX}
    (text,) = output.data.values()
    assert text == repr("63.5 % (it's an “interval”)")


def test_every_cell_of_a_table_is_escaped() -> None:
    shown = reporting.table_html(pd.DataFrame({"<b>": ["<script>alert(1)</script>\nline"]}), "a & b").data
    assert "<script>" not in shown and "<b>" not in shown
    assert "&lt;script&gt;alert(1)&lt;/script&gt;<br>line" in shown and "a &amp; b" in shown


def test_a_failed_arm_is_named_with_its_reason(with_failures: Path, one_seed: Path) -> None:
    shown = reporting.failures_html(with_failures, ["grpo"]).data
    assert "grpo_rich" in shown and "loss is not finite at step 3" in shown
    assert reporting.failures_html(one_seed).data == ""
    assert len(reporting.failed_jobs(with_failures)) == 2


def test_provenance_counts_runs_and_names_the_profile(three_seeds: Path) -> None:
    shown = reporting.provenance_html(three_seeds, "<laptop>", ["grpo"]).data
    assert "12 runs over three seeds" in shown and "&lt;laptop&gt;" in shown and "<laptop>" not in shown
    assert 'href="runs.html"' in shown
    assert "runs.html" not in reporting.provenance_html(three_seeds, "bases", ["grpo"], have_pages=False).data


def test_one_seed_keeps_its_own_interval_and_more_seeds_give_a_t_interval() -> None:
    rows = pd.DataFrame({"value": [0.5, 0.7], "lower": [0.4, 0.6], "upper": [0.6, 0.8]})
    assert over_seeds(rows[:1]) == Estimate(0.5, 0.4, 0.6, 1)
    both = over_seeds(rows)
    # t(.975, 1) = 12.706; half-width 12.706 * .1
    assert both.value == pytest.approx(0.6) and both.upper == pytest.approx(0.6 + 1.2706, rel=1e-3)
    assert over_seeds(rows.assign(value=math.nan)) == MISSING


def test_a_difference_is_paired_and_agrees_with_the_plain_means(one_seed: Path) -> None:
    completions = completions_of(one_seed)
    found = of_difference(completions, "grpo_rich", "grpo_absent", "pass@1")
    means = completions.groupby("arm")["correct"].mean()
    assert found.value == pytest.approx(means["grpo_rich"] - means["grpo_absent"])
    assert found.lower < found.value < found.upper and found.num_seeds == 1
    assert not of_difference(completions, "grpo_rich", "no_such_arm", "pass@1").measured


def test_an_arm_against_itself_differs_by_exactly_nothing(one_seed: Path) -> None:
    found = of_difference(completions_of(one_seed), "grpo_rich", "grpo_rich", "hit_rate")
    assert (found.value, found.lower, found.upper) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("lower", "upper", "verdict"),
    [
        (0.16, 0.3, "held"),
        (0.15, 0.2, "held"),
        (0.1, 0.3, "undecided"),
        (-0.1, 0.04, "failed"),
        (0.06, 0.1, "undecided"),
    ],
)
def test_a_claim_holds_or_fails_only_with_its_whole_interval(
    lower: float, upper: float, verdict: str
) -> None:
    estimate = Estimate((lower + upper) / 2, lower, upper, 5)
    prediction = Prediction(
        key="k",
        primary=False,
        effect="e",
        predicted=Region(low=0.15),
        falsifier=[Region(high=0.05), Region(low=0.9)],
        seeds=5,
    )
    claim = Claim("k", "s", "e", ("grpo_a", "grpo_b"), estimate, prediction, "points")
    assert claim.verdict == claim.judgement == verdict


def claim_from(values: list[float], key: str = "k", primary: bool = True) -> Claim:
    """A claim of at least 15 points, overturned by at most 5, on these seed means."""
    prediction = Prediction(
        key=key,
        primary=primary,
        effect="e",
        predicted=Region(low=0.15),
        falsifier=[Region(high=0.05)],
        seeds=5,
    )
    rows = pd.DataFrame({"value": values, "lower": values, "upper": values})
    return Claim(key, "s", "e", ("grpo_a", "grpo_b"), over_seeds(rows), prediction, "points")


CLEAR, NARROW, WIDE = (
    [0.40, 0.41, 0.39, 0.42, 0.40],
    [0.160, 0.185, 0.215, 0.170, 0.175],
    [0.1, 0.3, 0.2, 0.4, 0.1],
)


@pytest.mark.parametrize(
    ("values", "num_primary", "verdict"),
    [(CLEAR, 7, "held"), (NARROW, 1, "held"), (NARROW, 7, "undecided"), (WIDE, 1, "undecided")],
)
def test_a_primary_claim_must_stand_beside_all_the_others(
    values: list[float], num_primary: int, verdict: str
) -> None:
    (claim,) = together([claim_from(values)], num_primary)
    assert claim.verdict == verdict
    assert claim.withdrawn == (claim.alone != verdict)
    assert ("held alone, not with all primary claims" in claim.judgement) == claim.withdrawn
    (secondary,) = together([claim_from(values, primary=False)], num_primary)
    assert secondary.verdict == secondary.alone == claim.alone


def test_a_clear_claim_makes_room_for_the_next_one() -> None:
    clear, narrow = claim_from(CLEAR, "a"), claim_from(NARROW, "b")
    p_value = narrow.prediction.predicted.p_value(narrow.estimate)
    assert 0.025 / 2 < p_value <= 0.025, "decided as the second of two, not as one of two"
    assert [claim.verdict for claim in together([clear, narrow], 2)] == ["held", "held"]
    wide = claim_from(WIDE, "c")
    assert [claim.verdict for claim in together([wide, narrow], 2)] == ["undecided", "undecided"]


@pytest.mark.parametrize("values", [CLEAR, NARROW, WIDE])
def test_a_p_value_decides_as_its_interval_does(values: list[float]) -> None:
    estimate = claim_from(values).estimate
    for bound in (0.0, 0.15, estimate.lower, estimate.value, estimate.upper, 0.5):
        for above in (True, False):
            inside = estimate.lower >= bound if above else estimate.upper <= bound
            assert (estimate.p_value(bound, above) <= 0.025 + 1e-12) == inside


def test_an_interval_widened_on_one_side_has_no_p_value() -> None:
    estimate = Estimate(0.1, 0.0, 0.3, 5)
    assert math.isnan(estimate.p_value(-1.0, True)) and math.isnan(MISSING.p_value(0.0, True))
    assert Estimate(0.1, 0.0, 0.2, 5).p_value(-1.0, True) < 0.001


def test_one_seed_has_no_p_value_and_is_not_withdrawn() -> None:
    (claim,) = together([claim_from([0.4])], 7)
    assert math.isnan(claim.estimate.p_value(0.0, True)) and claim.alone == claim.verdict == "held"


def test_the_scorecard_lists_every_prediction_once(three_seeds: Path) -> None:
    claims, predictions = collect_claims(three_seeds), read_predictions()
    card = scorecard(claims, predictions).set_index("key")
    assert list(card.index) == list(predictions)
    measured = {claim.key: claim for claim in claims if claim.estimate.measured}
    assert set(card.index[card["num_seeds"] > 0]) == set(measured)
    assert (card.loc[card["num_seeds"] == 0, "verdict"] == NOT_RUN).all()
    for key, claim in measured.items():
        assert card.loc[key, "verdict"] == claim.verdict and card.loc[key, "value"] == claim.estimate.value
    shown = scorecard_strings(card.reset_index())
    assert shown["Verdict"].eq(NOT_RUN).sum() == len(card) - len(measured)
    assert all("exploratory, three seeds" in text for text in shown["Verdict"] if text != NOT_RUN)
    assert (card["kind"] == "confirmatory").sum() == 0, "three seeds claim nothing"
    assert count_verdicts(card, "confirmatory") == "none" != count_verdicts(card, "exploratory")


def test_only_primary_claims_with_enough_seeds_are_confirmatory() -> None:
    predictions = read_predictions()
    keys = ("knock_out", "search_pays", "masked_is_absent")
    values = {"knock_out": CLEAR, "search_pays": CLEAR, "masked_is_absent": CLEAR[:4]}
    claims = [replace(claim_from(values[key], key), prediction=predictions[key]) for key in keys]
    card = scorecard(claims, predictions).set_index("key")
    assert list(card.loc[list(keys), "kind"]) == ["confirmatory", "exploratory", "exploratory"]
    assert count_verdicts(card, "confirmatory") == "one held"


def test_what_was_run_and_left_open_is_not_called_not_run() -> None:
    predictions = read_predictions()
    values = {"threshold_is_narrow": MISSING, "threshold_moves_with_steps": MISSING}
    claims = [
        Claim(
            key, f"Statement {key}", "", ("grpo_rich",), estimate, predictions[key], "number", left_open=left
        )
        for (key, estimate), left in zip(values.items(), (True, False), strict=True)
    ]
    card = scorecard(claims, predictions).set_index("key")
    assert card.loc["threshold_is_narrow", "judgement"] == LEFT_OPEN
    assert card.loc["threshold_moves_with_steps", "judgement"] == NOT_RUN
    assert (card["kind"] == NOT_RUN).all(), "neither counts among verdicts"
    text = "\n".join(essay_table(claims)["What was measured"])
    assert text.count(LEFT_OPEN) == 1 and "Statement threshold_is_narrow" in text
    assert "Statement threshold_moves_with_steps" not in text


def test_claims_on_many_runs_are_left_open_only_where_all_of_them_were_made(
    tmp_path: Path, three_seeds: Path
) -> None:
    keys = {claim.key for claim in collect_claims(three_seeds)}
    more = collect_claims(three_seeds, undetermined=True)
    steps = set(collect_table(three_seeds, "grpo", "steps")["arm"])
    for claim in more:
        assert claim.left_open == (claim.key not in keys)
        assert not claim.left_open or (not claim.estimate.measured and set(claim.arms) <= steps)
    assert not any(claim.left_open for claim in collect_claims(tmp_path, undetermined=True))


def test_a_replication_stands_beside_what_it_repeats_and_only_there() -> None:
    predictions = read_predictions()

    def card_of(values: dict[str, list[float]]) -> pd.DataFrame:
        claims = [replace(claim_from(values[key], key), prediction=predictions[key]) for key in values]
        return scorecard(claims, predictions)

    first = card_of({"search_pays": CLEAR, "knock_out": CLEAR, "masked_is_absent": CLEAR})
    both = replication(first, card_of({"search_pays": NARROW, "knock_out": WIDE, "not_just_sft": CLEAR}))
    assert both["key"].tolist() == ["knock_out", "search_pays"]
    assert both["value"].nunique() == 1 and both["value_again"].tolist() == pytest.approx(
        [sum(WIDE) / len(WIDE), sum(NARROW) / len(NARROW)]
    )
    shown = replication_strings(both)
    assert all(both.loc[row, "measured_again"] in shown.loc[row, "Again"] for row in shown.index)
    assert replication_strings(replication(first, card_of({}))).empty


def test_the_essays_claims_rest_on_predictions_of_the_page(three_seeds: Path) -> None:
    predictions = read_predictions()
    named = [key for essay in ESSAY_CLAIMS for key in essay.keys]
    assert set(named) <= set(predictions) and len(named) == len(set(named))
    table = essay_table(collect_claims(three_seeds))
    assert table.iloc[-1]["What was measured"] == "not tested here", "the claim on model families"
    assert "exploratory, three seeds" in table.iloc[0]["What was measured"]


def test_few_seeds_are_called_exploratory_and_nothing_is_never_zero(
    one_seed: Path, with_failures: Path
) -> None:
    judged = {claim.key: claim for claim in collect_claims(one_seed)}
    assert judged["priming_repairs"].judgement.endswith("; exploratory, one seed")
    missing = {claim.key: claim for claim in collect_claims(with_failures)}["search_pays"]
    assert missing.judgement == missing.measured == "not measured"


def searching_after_rl(root: Path, num_problems: int, num_searching: int) -> Claim:
    """Judge `nothing_created` on an absent base with so many searching completions, two a problem, after RL."""
    empty = completions_table("base_absent", 0, 1, 1)[:1]
    completions = pd.concat([empty] * (2 * num_problems), ignore_index=True)
    completions["problem"] = [f"p{row // 2}" for row in completions.index]
    completions["sample"] = completions.index % 2
    completions["backtracking_count"] = (completions.index % 2 == 0) & (completions.index < 2 * num_searching)
    completions["backtracking_count"] = completions["backtracking_count"].astype(int)
    completions["verification_count"] = 0
    tables = {"completions": completions, "summary": summary_table(completions)}
    write_run(root, "behaviour_evaluation", "grpo_absent", 0, tables)
    return {claim.key: claim for claim in collect_claims(root)}["nothing_created"]


def test_no_event_is_never_judged_more_weakly_than_one(tmp_path: Path) -> None:
    for num_problems in (12, 400, 1000):
        none, one, few = (
            searching_after_rl(tmp_path / f"{num_problems}-{count}", num_problems, count)
            for count in (0, 1, 4)
        )
        assert none.estimate.value == 0 < one.estimate.value < few.estimate.value
        assert 0 < none.estimate.upper < one.estimate.upper < few.estimate.upper
        if one.verdict == "held":
            assert none.verdict == "held"


@pytest.mark.parametrize(("num_problems", "verdict"), [(200, "undecided"), (380, "undecided"), (381, "held")])
def test_no_event_is_held_with_enough_problems_and_the_claim_says_what_they_resolve(
    num_problems: int, verdict: str, tmp_path: Path
) -> None:
    # Wilson at 0 of n ends at z^2 / (n + z^2), which is 1 % at n = 380.3.
    created = searching_after_rl(tmp_path, num_problems, 0)
    assert created.verdict == verdict
    limit = 1.959964**2 / (num_problems + 1.959964**2)
    assert created.estimate.upper == pytest.approx(limit, rel=1e-5)
    assert (
        f"none at all on {num_problems} problems would leave up to {reporting.percent(limit)}"
        in created.effect
    )


def test_a_row_says_when_a_base_behind_it_is_below_its_bars(one_seed: Path) -> None:
    # The made-up rich base misses a bar, the absent one does not.
    judged = {claim.key: claim for claim in collect_claims(one_seed)}
    below = {key for key, claim in judged.items() if claim.below_bars}
    assert below == {"search_pays", "amplified", "searches_longer"}
    shown = verdict_strings(list(judged.values()))["Verdict"]
    assert [("a base is below its bars" in text) for text in shown] == [key in below for key in judged]


def test_a_row_names_the_arms_that_it_compares(one_seed: Path, with_failures: Path) -> None:
    for results in (one_seed, with_failures):
        judged = {claim.key: claim for claim in collect_claims(results)}
        control = judged["not_just_sft"]
        assert control.arms == ("grpo_sft_verification_backtracking", "grpo_sft_direct")
        assert all(f"“{arm_label(arm)}”" in control.effect for arm in control.arms)
    table = verdict_table(collect_claims(one_seed)).set_index("key")
    assert table.loc["search_pays", "arms"] == "grpo_rich grpo_absent"


def test_the_control_says_how_many_tokens_each_priming_saw(one_seed: Path) -> None:
    control = {claim.key: claim for claim in collect_claims(one_seed)}["not_just_sft"]
    assert control.effect.endswith("tokens seen in priming: 2,000,000 and 2,000,000")


def test_conditions_are_compared_where_both_were_run(tmp_path: Path) -> None:
    def evaluate(arm: str) -> None:
        completions = completions_table("grpo_rich", 0, 4, 2)
        tables = {"completions": completions, "summary": summary_table(completions)}
        write_run(tmp_path, "behaviour_evaluation", arm, 0, tables)

    def judged() -> dict[str, Claim]:
        return {claim.key: claim for claim in collect_claims(tmp_path)}

    evaluate("grpo_sft_verification_backtracking")
    assert "search_beats_filler" not in judged()
    evaluate("grpo_sft_filler")
    claim = judged()["search_beats_filler"]
    assert claim.estimate.value == 0 and claim.prediction.primary, "the same completions, made up twice"
    assert not {"words_are_not_enough", "wrong_answers_cost_little"} & set(judged())
    evaluate("grpo_sft_incorrect")
    evaluate("grpo_sft_all_behaviours")
    assert judged()["wrong_answers_cost_little"].arms == ("grpo_sft_incorrect", "grpo_sft_all_behaviours")


def test_knocking_out_and_permuting_are_claims_where_they_were_run(tmp_path: Path) -> None:
    for arm in ("base_rich", "grpo_rich", "grpo_absent", "grpo_rich_masked", "grpo_rich_permuted"):
        completions = completions_table(arm.replace("_masked", "").replace("_permuted", ""), 0, 4, 2)
        tables = {"completions": completions, "summary": summary_table(completions)}
        write_run(tmp_path, "behaviour_evaluation", arm, 0, tables)
    judged = {claim.key: claim for claim in collect_claims(tmp_path)}
    assert judged["masked_is_absent"].arms == ("grpo_rich_masked", "grpo_absent")
    assert judged["permuted_gains_nothing"].arms == ("grpo_rich_permuted", "base_rich")
    assert judged["permuted_gains_nothing"].estimate.measured


def test_verdict_tables_have_a_row_for_each_claim(three_seeds: Path) -> None:
    claims = collect_claims(three_seeds)
    assert len(verdict_table(claims)) == len(verdict_strings(claims)) == len(claims) >= 6
    assert verdict_table(claims)["num_seeds"].eq(3).all()


def test_an_empty_results_folder_measures_nothing_and_breaks_nothing(tmp_path: Path) -> None:
    assert {claim.verdict for claim in collect_claims(tmp_path)} == {"not measured"}
    empty = pd.DataFrame(columns=["arm", "seed", "measure", "value", "lower", "upper"])
    assert of_measure(empty, "grpo_rich", "pass@1") == MISSING


def test_missed_bars_are_listed_with_what_was_asked_for() -> None:
    rows = [
        ("rich", 3, "verdicts true on hits", 0.9, ">=", 0.95, False),
        ("rich", 4, "truncated", 0.01, "<=", 0.02, True),
    ]
    bars = pd.DataFrame(rows, columns=["arm", "seed", "bar", "value", "direction", "threshold", "passed"])
    shown = str(reporting.missed_bars_html(bars, "trunk").data)
    for text in (f"{arm_label('rich')}, trunk 3", "verdicts true on hits", "0.900", "0.950"):
        assert text in shown
    assert "truncated" not in shown
    assert "no rows" in str(reporting.missed_bars_html(bars[bars["passed"]]).data)
