"""Each sentence that says something rests on the results: it holds on them, and not where they have no effects."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
from stores import CHAPTERS, permuted, run_chapter, without_effects

from extrabitter.digests import REPOSITORY
from extrabitter.pages import plots
from extrabitter.pages.chapter import Chapter, ClaimError
from extrabitter.plan import make_book
from extrabitter.statistics import of_difference, of_measure
from extrabitter.store import read

pytestmark = pytest.mark.slow

STORE = REPOSITORY / make_book("").results_dir


class Claim(NamedTuple):
    """A sentence of a page, whether it holds, and whether it is a fact of the set-up rather than an effect."""

    text: str
    holds: bool
    fact: bool


Claims = dict[tuple[str, int], Claim]  # by page and number


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The published store, then two in which its effects are not there."""
    folder = tmp_path_factory.mktemp("stores")
    level = without_effects(STORE, folder / "without" / STORE.name)
    return {"published": STORE, "permuted": permuted(STORE, folder / STORE.name), "without effects": level}


@pytest.fixture(scope="module")
def claims(stores: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Claims]:
    """The claims of all chapters by page and number, on each store; pages of facts alone only on the published one."""
    output, found = tmp_path_factory.mktemp("output"), {name: Claims() for name in stores}
    heard: list[Claim] = []

    def hear(page: Chapter, condition: bool, text: str, fact: bool = False, **_: object) -> None:
        heard.append(Claim(text, bool(condition), fact))

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(REPOSITORY)
        patch.setattr(plots, "to_svg", lambda fig: "<svg>")  # no figure is looked at
        patch.setattr(Chapter, "claim", hear)  # none of them stops its chapter
        for notebook in CHAPTERS:
            for name, store in stores.items():
                heard.clear()
                run_chapter(notebook, results_dir=str(store), output_dir=str(output))
                found[name] |= {(notebook.stem, number): claim for number, claim in enumerate(heard)}
                if all(claim.fact for claim in heard):
                    break
    return found


def test_every_claim_holds_on_the_published_results(claims: dict[str, Claims]) -> None:
    assert [claim for claim in claims["published"].values() if not claim.holds] == []
    effects = {page for (page, _), claim in claims["published"].items() if not claim.fact}
    argue = {"index", "taste_test", "choke", "choke_or_slow", "what_search_buys", "verdict"}
    assert argue <= effects, "a page that argues from results must claim of them"


def test_every_claim_about_an_effect_fails_where_there_is_none(claims: dict[str, Claims]) -> None:
    published, others = claims["published"], (claims["permuted"], claims["without effects"])
    facts = [key for key, claim in published.items() if claim.fact]
    argued = {page for page, _ in published.keys() - facts}
    made = {key for key in published if key[0] in argued}
    assert all(set(other) == made for other in others), "a claim was made on one store only"
    idle = [key for key in made - {*facts} if all(other[key].holds for other in others)]
    texts = [f"{key[0]}: {published[key].text}" for key in sorted(idle)]
    assert texts == [], "these hold whatever was found: claim what is said, or mark a fact of the set-up"
    assert len(facts) < len(published) / 2


def test_a_page_whose_claim_fails_stops_with_page_sentence_and_values(
    stores: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(REPOSITORY)
    notebook = next(path for path in CHAPTERS if path.stem == "taste_test")
    with pytest.raises(ClaimError, match=r"page taste_test: “.+”.*found: .+"):
        run_chapter(notebook, results_dir=str(stores["without effects"]), output_dir=str(tmp_path))


@pytest.mark.parametrize("name", ["permuted", "without effects"])
def test_a_store_without_effects_has_all_tables_and_no_effect(name: str, stores: dict[str, Path]) -> None:
    store = stores[name]
    files = {path.relative_to(STORE) for path in STORE.rglob("*.parquet")}
    assert {path.relative_to(store) for path in store.rglob("*.parquet")} == files
    for table in ("summary", "counts", "steps", "bars", "completions"):
        there, here = (read(root, "countdown", table).groupby(["seed", "arm"]) for root in (STORE, store))
        assert here.size().index.equals(there.size().index)
    arms = ("after_searcher_rare", "after_guesser_rare")
    summaries = [read(root, "countdown", "summary") for root in (STORE, store)]
    gaps = [of_difference(summary, *arms) for summary in summaries]
    assert gaps[0].lower > 0.2
    assert abs(gaps[1].value) < 0.05 and gaps[1].lower <= 0 <= gaps[1].upper
    searches = [of_measure(summary, arms[0], "frac_searches").value for summary in summaries]
    assert searches[0] > 0.9 > 0.5 > searches[1]
