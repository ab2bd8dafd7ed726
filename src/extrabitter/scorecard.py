"""What came of every prediction, and of the essay's claims, in tables for the verdict page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from extrabitter.predictions import Prediction
from extrabitter.reporting import CLAIM_SEEDS, number_word, spell
from extrabitter.verdicts import Claim

NOT_RUN = "not run"
LEFT_OPEN = "run, and left open: the effect cannot be computed from what the runs show"


@dataclass(frozen=True)
class EssayClaim:
    """A claim of the essay, the predictions that speak to it, and what they leave open."""

    statement: str
    keys: tuple[str, ...]
    leaves_open: str


ESSAY_CLAIMS = (
    EssayClaim(
        "As written (first hypothesis): RL surfaces behaviours that are there and creates none",
        ("nothing_created", "amplified", "permuted_gains_nothing"),
        "Longer training, denser rewards and composition of skills, where others find that RL does create.",
    ),
    EssayClaim(
        "The behaviour is the cause: without it a large part of the gain is gone",
        ("knock_out", "masked_is_absent", "search_pays"),
        "Behaviours other than checking and going back, and tasks where a guess is never right by luck.",
    ),
    EssayClaim(
        "RL re-ranks what many samples reach: less of it without search, more with search, counted by samples",
        ("absent_is_only_sharpened", "rich_is_broadened"),
        "Longer training; whether a model that lost problems was narrowed or has specialised; and tokens: counted by "
        "them, more samples of a base may reach further than fewer, longer ones after RL.",
    ),
    EssayClaim(
        "As sharpened here (first hypothesis): a behaviour survives RL if it is there, pays, and is not outcompeted "
        "first",
        ("selection_follows_advantage", "advantage_beats_simpler_predictors", "tight_cap_kills_search"),
        "Models whose behaviours come apart more than search, checking and going back do here.",
    ),
    EssayClaim(
        "Priming repairs a base that lacks the behaviour; whether its answers are right matters little",
        (
            "priming_repairs",
            "not_just_sft",
            "search_beats_filler",
            "words_are_not_enough",
            "wrong_answers_cost_little",
        ),
        "Whether a primed base is as good as one that was pretrained with the behaviour.",
    ),
    EssayClaim(
        "As written (second hypothesis): exploration is the wall; what is hardly ever drawn is hardly ever rewarded",
        ("plain_stays_silent", "take_off_collapses"),
        "Which wall stands in the way of a large model, and what better exploration than sampling would find.",
    ),
    EssayClaim(
        "As sharpened here (second hypothesis): there are three walls, no chance at all, too few draws, and a gradient "
        "that is slow where the chance is small; to draw the behaviour is enough only where the gradient then moves",
        ("forced_takes_off", "dose_is_a_threshold", "threshold_is_narrow", "threshold_moves_with_steps"),
        "The arm that draws it and weighs the gradient back, which takes down the wall of too few draws alone, has no "
        "prediction: what it did stands on the page on sampler and gradient.",
    ),
    EssayClaim(
        "Qwen bases have the behaviours and Llama bases lack them",
        (),
        "All of it: models of this size share an architecture with these families and nothing else.",
    ),
)


def essay_table(claims: Sequence[Claim]) -> pd.DataFrame:
    """List the essay's claims with what was measured for each, as ready-made strings."""
    measured = {claim.key: claim for claim in claims}
    rows = []
    for essay in ESSAY_CLAIMS:
        named = [measured[key] for key in essay.keys if key in measured]
        found = [claim for claim in named if claim.estimate.measured]
        left_open = [claim for claim in named if claim.left_open]
        lines = [
            f"{claim.statement}: {claim.measured}; {claim.judgement} ({_runs_behind(claim)})"
            for claim in found
        ]
        lines += [f"{claim.statement}: {LEFT_OPEN}" for claim in left_open]
        missing = len(essay.keys) - len(found) - len(left_open)
        if missing:
            lines.append(f"{spell(missing, 'prediction')} {NOT_RUN}")
        rows.append((essay.statement, "\n\n".join(lines) or "not tested here", essay.leaves_open))
    return pd.DataFrame(rows, columns=["The claim", "What was measured", "What stays open"])


def _runs_behind(claim: Claim) -> str:
    """Count the seeds and the evaluated or trained runs that a claim's effect is computed from."""
    seeds = claim.estimate.num_seeds
    return f"{spell(seeds, 'seed')}, {spell(seeds * len(set(claim.arms)), 'run')}"


def scorecard(claims: Sequence[Claim], predictions: Mapping[str, Prediction]) -> pd.DataFrame:
    """List every prediction of the page with what came of it, in the page's order.

    Columns: key, primary, effect, seeds (planned), num_seeds (run), value, lower, upper, measured (as text),
    verdict (of the interval), kind ("confirmatory": primary, with enough seeds; else "exploratory"; or "not run")
    and judgement (the verdict with its cautions, or why there is none).
    """
    measured = {claim.key: claim for claim in claims if claim.estimate.measured}
    left_open = {claim.key for claim in claims if claim.left_open}
    rows: list[dict[str, object]] = []
    for key, prediction in predictions.items():
        row: dict[str, object] = {
            "key": key,
            "primary": prediction.primary,
            "effect": prediction.effect,
            "seeds": prediction.seeds,
        }
        if claim := measured.get(key):
            estimate = claim.estimate
            confirmatory = prediction.primary and estimate.num_seeds >= CLAIM_SEEDS
            row |= {
                "num_seeds": estimate.num_seeds,
                "value": estimate.value,
                "lower": estimate.lower,
                "upper": estimate.upper,
                "measured": claim.measured,
                "verdict": claim.verdict,
                "kind": "confirmatory" if confirmatory else "exploratory",
                "judgement": claim.judgement,
            }
        else:
            row |= {"num_seeds": 0, "value": None, "lower": None, "upper": None, "measured": ""}
            row |= dict.fromkeys(("verdict", "kind"), NOT_RUN)
            row["judgement"] = LEFT_OPEN if key in left_open else NOT_RUN
        rows.append(row)
    return pd.DataFrame(rows)


def scorecard_strings(card: pd.DataFrame) -> pd.DataFrame:
    """Show a scorecard as ready-made strings, narrow enough for a page."""
    kinds = card["primary"].map({True: "primary", False: "secondary"})
    return pd.DataFrame(
        {
            "Prediction": [
                f"{key.replace('_', ' ')}\n({kind}; {effect})"
                for key, kind, effect in zip(card["key"], kinds, card["effect"], strict=True)
            ],
            "Measured": card["measured"],
            "Seeds": [
                f"{run} of {planned}" for run, planned in zip(card["num_seeds"], card["seeds"], strict=True)
            ],
            "Verdict": card["judgement"],
        }
    )


def replication(card: pd.DataFrame, again: pd.DataFrame) -> pd.DataFrame:
    """Set two scorecards side by side: the predictions that both have measured, in the page's order.

    Columns: key, primary, effect, and those of an effect and its verdict, from `again` with a suffix.
    """
    columns = ["num_seeds", "value", "lower", "upper", "measured", "judgement"]
    both = card[["key", "primary", "effect", *columns]].merge(
        again[["key", *columns]], on="key", suffixes=("", "_again")
    )
    return both[(both["num_seeds"] > 0) & (both["num_seeds_again"] > 0)].reset_index(drop=True)


def replication_strings(both: pd.DataFrame) -> pd.DataFrame:
    """Show a table of `replication` as ready-made strings."""
    shown = {"Prediction": both["key"].str.replace("_", " ") + "\n(" + both["effect"] + ")"}
    for name, suffix in (("These runs", ""), ("Again", "_again")):
        shown[name] = both[f"measured{suffix}"] + "\n(" + both[f"judgement{suffix}"] + ")"
    return pd.DataFrame(shown)


def count_verdicts(card: pd.DataFrame, kind: str) -> str:
    """Count the verdicts of one kind in words; "none" where there is none.

    >>> count_verdicts(pd.DataFrame({"kind": ["exploratory"] * 2, "verdict": ["held", "failed"]}), "exploratory")
    'one held, one failed'
    """
    counts = card.loc[card["kind"] == kind, "verdict"].value_counts()
    met = [verdict for verdict in ("held", "failed", "undecided") if verdict in counts]
    return ", ".join(f"{number_word(int(counts[verdict]))} {verdict}" for verdict in met) or "none"
