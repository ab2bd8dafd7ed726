"""A caption's sentence says what its numbers say, on every side of each decision, and says where there are none."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import pytest

from extrabitter import decoding, takeaways
from extrabitter.behaviours import MEASURES, summarise
from extrabitter.estimates import MISSING, Estimate
from extrabitter.fitted_dynamics import COLUMNS, DYNAMICS, NO_CHANGE, NULL
from extrabitter.selection import PREDICTORS


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([], "no problems"),
        ([1], "one problem"),
        ([12, 12], "12 problems"),
        ([4800], "4,800 problems"),
        ([150, 1600], "150 to 1,600 problems"),
    ],
)
def test_counts_are_written_once_or_as_a_range(values: list[float], text: str) -> None:
    assert takeaways.counted(values, "problem") == text


@pytest.mark.parametrize(
    ("seeds", "text"),
    [
        ({}, "no complete run"),
        ({"a": 1}, "one seed an arm, exploratory below five"),
        ({"a": 5, "b": 5}, "five seeds an arm"),
        ({"a": 3, "b": 5}, "three to five seeds an arm, exploratory below five"),
    ],
)
def test_seeds_are_counted_with_a_caution_where_they_are_few(seeds: dict[str, int], text: str) -> None:
    rows = [(arm, seed) for arm, count in seeds.items() for seed in range(count)]
    assert takeaways.seeds_an_arm(pd.DataFrame(rows, columns=["arm", "seed"])) == text


def take_off(slopes: Sequence[float], late: int = 0) -> pd.DataFrame:
    """Runs of three chances a seed whose completions drawn until take-off follow the chance with a slope."""
    rows = [
        (f"grpo_{arm}", seed, 10.0**arm, 20.0, 80, 10.0 ** (arm * (1 + slope)))
        for seed, slope in enumerate(slopes)
        for arm in (-3, -2, -1)
    ]
    rows += [("grpo_late", seed, 1e-5, float("nan"), 80, 1.0) for seed in range(late)]
    return pd.DataFrame(rows, columns=["arm", "seed", "chance", "step", "last_step", "product"])


@pytest.mark.parametrize(
    ("slopes", "said"),
    [
        ((-0.2, -0.21, -0.19), "costs less than in proportion"),
        ((-1.5, -1.51, -1.49), "costs more than in proportion"),
        ((-0.7, -1.0, -1.3), "which includes the line’s tenth"),
        ((-1.0,), "from one seed, which does not tell"),
    ],
)
def test_take_off_is_set_beside_the_line_of_a_constant_product(slopes: tuple[float, ...], said: str) -> None:
    text = takeaways.of_take_off(take_off(slopes))
    assert text.endswith(f"{said}.") or said in text
    assert text.count("costs") <= 1


def test_take_off_says_how_many_did_and_what_ten_times_the_chance_went_with() -> None:
    text = takeaways.of_take_off(take_off((-1.0, -1.0), late=2))
    assert text.startswith(
        "Six of eight runs took off; among them, ten times the chance goes with 0.10 (0.10 to"
    )


def test_take_off_without_runs_or_without_two_chances_says_so() -> None:
    runs = take_off((-1.0,))
    assert takeaways.of_take_off(runs.head(0)).startswith("No run was made")
    assert takeaways.of_take_off(runs.head(1)).endswith(
        "no seed has two of them to say how the time follows the chance."
    )
    assert takeaways.of_take_off(take_off((), late=2)).startswith(
        "None of two runs took off; no seed has two"
    )


def decoders(rows: dict[tuple[str, str], float]) -> pd.DataFrame:
    columns = ["decoder", "arm", "value"]
    return pd.DataFrame([(*key, value) for key, value in rows.items()], columns=columns)


def test_the_plain_decoder_is_called_as_the_probe_calls_it() -> None:
    assert takeaways.PLAIN_DECODER == decoding.PLAIN


def test_decoders_are_compared_with_the_plain_one() -> None:
    table = decoders(
        {
            ("temperature 1", "a"): 0.1,
            ("temperature 1", "b"): 1e-6,
            ("temperature 1", "never"): 0.0,
            ("hot", "a"): 0.2,
            ("hot", "b"): 1e-3,
            ("hot", "never"): 0.0,
            ("filter", "a"): 0.1,
            ("filter", "b"): 0.0,
            ("filter", "never"): 0.0,
        }
    )
    arms = ("a", "b", "never")
    text = takeaways.of_decoders(table, arms)
    assert "hot multiplies the median base’s chance by the most, 2.0 (least) to 1,000 (most)" in text
    assert text.endswith("it is exactly nought under filter (one) of two bases.")
    assert "2.0; under none is it" in takeaways.of_decoders(table[table["arm"] == "a"], arms)
    only = takeaways.of_decoders(table[table["decoder"] == "temperature 1"], arms)
    assert only == "Only temperature 1 was measured."
    for nothing in (table.head(0), table[table["arm"] == "never"], table[table["decoder"] == "hot"]):
        assert takeaways.of_decoders(nothing, arms) == "No base with a chance to begin a search was probed."


def hits(right: Sequence[bool], rivals: Sequence[bool], seeds: Sequence[int]) -> pd.DataFrame:
    table = pd.DataFrame({"seed": list(seeds), "cluster": [f"m {seed}" for seed in seeds]})
    return table.assign(**{name: list(rivals) for name in PREDICTORS} | {"advantage": list(right)})


YES, NO = [True] * 6, [False] * 6
SEEDS = [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("right", "rivals", "seeds", "end"),
    [
        (YES, NO, SEEDS, "over seeds the advantage is ahead."),
        (NO, YES, SEEDS, "over seeds the advantage is behind."),
        (YES, YES, SEEDS, "over seeds neither is ahead."),
        (YES, NO, [0] * 6, "one seed does not rank the two."),
    ],
)
def test_the_advantage_is_ahead_only_by_an_interval(
    right: list[bool], rivals: list[bool], seeds: list[int], end: str
) -> None:
    text = takeaways.of_selection(hits(right, rivals, seeds))
    assert text.endswith(end)
    assert (
        f"{sum(right)} of six marks that count, the best of three simpler predictors in {sum(rivals)};"
        in text
    )


def test_without_a_pair_that_counts_nothing_is_said_of_the_advantage() -> None:
    assert takeaways.of_selection(hits([], [], [])) == "No pair counts here."


def fits(errors: dict[str, dict[str, float]], seeds: int = 3) -> pd.DataFrame:
    """Rows of `fitted_dynamics.judged` from errors by arm and dynamics, a little different from seed to seed."""
    rows = [
        (arm, seed, 0.1, 0.3, name, 1.0, error + 0.001 * seed, "")
        for arm, found in errors.items()
        for seed in range(seeds)
        for name, error in found.items()
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def of_names(replicator: float, sgd: float, adam: float, none: float) -> dict[str, float]:
    return dict(zip([*DYNAMICS, NO_CHANGE], (replicator, sgd, adam, none), strict=True))


def test_the_dynamics_that_misses_by_least_is_closest_only_by_the_rule() -> None:
    clear = fits({"grpo_rich": of_names(0.3, 0.1, 0.2, 0.4), NULL: of_names(0.3, 0.3, 0.3, 0.1)})
    text = takeaways.of_dynamics(clear)
    assert text.startswith("Over all three runs of one arm that could be judged, “softmax SGD” misses")
    assert "by the rule it is closest" in text and "permuted, “no change” misses by least" in text
    one = takeaways.of_dynamics(fits({"grpo_rich": of_names(0.3, 0.1, 0.2, 0.4)}, seeds=1))
    assert one.endswith("by the rule none is closest.")
    assert takeaways.of_dynamics(clear.head(0)) == "No run could be fitted and judged."
    missing = clear.assign(error=float("nan"))
    assert takeaways.of_dynamics(missing) == "No run could be fitted and judged."


def test_runs_that_are_shown_have_an_error_of_every_dynamics() -> None:
    table = fits({"a": of_names(0.1, 0.1, 0.1, 0.1), "b": of_names(0.1, float("nan"), 0.1, 0.1)}, seeds=2)
    assert takeaways.judged_runs(table).to_dict("list") == {"arm": ["a", "a"], "seed": [0, 1]}
    assert takeaways.judged_runs(table, ["b"]).empty and takeaways.judged_runs(table.head(0)).empty


def scores(probe: float, rival: float, rank: Estimate) -> pd.DataFrame:
    rows = [("probe", probe, rank), ("pass@8 before", rival, MISSING), ("other", rival + 0.1, MISSING)]
    return pd.DataFrame(rows, columns=["predictor", "error", "correlation"])


@pytest.mark.parametrize(
    ("rank", "end"),
    [
        (Estimate(0.5, 0.2, 0.8, 3), "95 % interval over three seeds: they rank models."),
        (Estimate(-0.5, -0.8, -0.2, 3), "they rank models the wrong way round."),
        (Estimate(0.1, -0.2, 0.4, 3), "that they rank models is not shown."),
        (Estimate(0.5, float("nan"), float("nan"), 1), "0.50, from one seed."),
        (MISSING, "too few models of one seed are there to rank."),
    ],
)
def test_forecasts_rank_models_only_by_an_interval(rank: Estimate, end: str) -> None:
    text = takeaways.of_forecasts(scores(0.1, 0.2, rank))
    assert text.startswith(
        "Forecasts are off by 10.0 points on average, those from the best single number (pass@8"
    )
    assert text.endswith(end)


def test_without_enough_models_there_is_no_forecast_to_speak_of() -> None:
    text = takeaways.of_forecasts(scores(float("nan"), float("nan"), MISSING))
    assert text == "Too few models were probed and trained for a forecast."


def evaluated(shares: dict[str, Sequence[float]]) -> pd.DataFrame:
    rows = [
        (arm, seed, "frac_searches", value)
        for arm, values in shares.items()
        for seed, value in enumerate(values)
    ]
    return pd.DataFrame(rows, columns=["arm", "seed", "measure", "value"])


@pytest.mark.parametrize(
    ("shares", "parts"),
    [
        (
            {takeaways.PLAIN: (0.9, 0.0, 0.0), takeaways.WEIGHTED: (0.9, 0.8, 0.1), takeaways.FORCED: (1.0,)},
            (
                "one of three runs under plain RL, two of three runs forced and weighted back, one of one run forced",
                "of two seeds in which plain RL did not get there, taking down the sampler’s wall alone was enough in",
            ),
        ),
        (
            {takeaways.PLAIN: (0.0,), takeaways.WEIGHTED: (0.0,)},
            ("of one seed in which", "was enough in none."),
        ),
        ({takeaways.PLAIN: (0.9,), takeaways.WEIGHTED: (0.0,)}, ("plain RL got there in each seed",)),
        ({takeaways.PLAIN: (0.0,)}, ("none of one run under plain RL; these runs do not tell",)),
        ({}, ("No run of these arms was evaluated.",)),
    ],
)
def test_the_walls_are_told_apart_by_the_seeds_that_plain_rl_left_silent(
    shares: dict[str, Sequence[float]], parts: tuple[str, ...]
) -> None:
    text = takeaways.of_forcing(evaluated(shares))
    assert all(part in text for part in parts), text


GAIN_MEASURES = {
    name: MEASURES[name]
    for name in ("pass@1", "mean_attempts", "first_attempt_hit_rate", "hit_rate", "verdict_accuracy")
}


def asked(arm: str, solved: int, first: int, attempts: int, hits: int, true: int | None) -> pd.DataFrame:
    """Ten problems under three seeds: so many solved, hit at first, hit at all, and with a true verdict, if any."""
    problems = range(10)
    each = {
        "arm": arm,
        "problem": [f"p{p}" for p in problems],
        "correct": [p < solved for p in problems],
        "first_attempt_hit": [p < first for p in problems],
        "num_attempts": attempts,
        "num_hits": [int(p < hits) for p in problems],
        "num_verdicts": int(true is not None),
        "num_true_verdicts": [int(p < (true or 0)) for p in problems],
    }
    return pd.concat([pd.DataFrame({"seed": seed, **each}) for seed in range(3)], ignore_index=True)


def told_gain(*tables: pd.DataFrame) -> str:
    completions = pd.concat(tables, ignore_index=True)
    rows = [
        (arm, seed, measure, value, value, value)
        for (arm, seed), run in completions.groupby(["arm", "seed"])
        for measure, value in summarise(run, GAIN_MEASURES).items()
    ]
    summary = pd.DataFrame(rows, columns=["arm", "seed", "measure", "value", "lower", "upper"])
    return takeaways.of_gain(summary, completions, "base_rich", "grpo_rich")


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (
            (3, 3, 1, 3, 9),
            (8, 4, 2, 6, 9),
            "(from 30.0 % to 80.0 % of unseen problems solved) came with longer search (m from 1.00 to 2.00) and "
            "better first guesses (first attempts that hit from 30.0 % to 40.0 %), but not with more hits per "
            "attempt (h from 30.0 % to 30.0 %) or truer verdicts (v from 90.0 % to 90.0 %).",
        ),
        (
            (3, 3, 1, 3, None),
            (6, 6, 1, 6, None),
            "came with better first guesses (first attempts that hit from 30.0 % to 60.0 %) and more hits per attempt "
            "(h from 30.0 % to 60.0 %), but not with longer search (m from 1.00 to 1.00); for truer verdicts there is "
            "nothing to compare.",
        ),
        (
            (3, 3, 1, 3, 9),
            (4, 3, 1, 3, 8),
            "came with none of what could have risen, that is, not with longer search (m from",
        ),
        (
            (3, 3, 1, 3, 9),
            (2, 4, 2, 3, 9),
            "from 30.0 % to 20.0 % of unseen problems solved; by the interval of the paired difference that is no gain",
        ),
        ((3, 3, 1, 3, 9), (3, 4, 2, 3, 9), "that is no gain to split."),
    ],
)
def test_a_gain_came_with_what_rose_by_an_interval(
    before: tuple[int, int, int, int, int | None], after: tuple[int, int, int, int, int | None], said: str
) -> None:
    assert said in told_gain(asked("base_rich", *before), asked("grpo_rich", *after))


def test_a_model_measured_on_one_side_of_rl_has_no_gain() -> None:
    text = told_gain(asked("grpo_rich", 3, 3, 1, 3, 9))
    assert text == "“rich: sometimes searches” was not measured both before and after RL."
