"""Each sentence that says something rests on the results: it holds on them, and not where they have no effects."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from stores import CHAPTERS, permuted, run_chapter, without_effects

from extrabitter.digests import REPOSITORY
from extrabitter.pages.chapter import Claim, ClaimError, listening
from extrabitter.plan import make_book
from extrabitter.statistics import of_measure, solved_difference
from extrabitter.store import read

STORE = REPOSITORY / make_book("").results_dir
Claims = dict[tuple[str, int], Claim]


@pytest.fixture(scope="module")
def claims(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Claims]]:
    """The claims of all chapters by page and number, on each store."""
    folder = tmp_path_factory.mktemp("stores")
    stores = {
        "published": STORE,
        "permuted": permuted(STORE, folder / "permuted" / STORE.name),
        "without effects": without_effects(STORE, folder / "without" / STORE.name),
    }
    found: dict[str, Claims] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(REPOSITORY)
        for name, store in stores.items():
            found[name] = {}
            for notebook in CHAPTERS:
                with listening() as heard:
                    run_chapter(notebook, results_dir=str(store), output_dir=str(folder / "output"))
                found[name] |= {(notebook.stem, number): claim for number, claim in enumerate(heard)}
    yield found


def test_every_claim_holds_on_the_published_results(claims: dict[str, Claims]) -> None:
    assert [claim for claim in claims["published"].values() if not claim.holds] == []
    effects = {page for (page, _), claim in claims["published"].items() if not claim.fact}
    assert {"index", "taste_test", "verdict"} <= effects, (
        "pages that argue from results must claim something of them"
    )


def test_every_claim_about_an_effect_fails_where_there_is_none(claims: dict[str, Claims]) -> None:
    published, others = claims["published"], (claims["permuted"], claims["without effects"])
    assert all(set(other) == set(published) for other in others), "a claim was made on one store only"
    facts = [key for key, claim in published.items() if claim.fact]
    print(f"{len(published)} claims, of which facts that no result decides:")
    for page, number in facts:
        print(f"  {page}: {published[page, number].text}")
    idle = [
        f"{key[0]}: {claim.text}"
        for key, claim in published.items()
        if key not in facts and all(other[key].holds for other in others)
    ]
    assert idle == [], (
        "these hold whatever was found; claim what the sentence says, or mark a fact of the set-up"
    )
    assert len(facts) < len(published) / 2


def test_a_page_whose_claim_fails_stops_with_page_sentence_and_values(tmp_path: Path) -> None:
    store = without_effects(STORE, tmp_path / "without")
    with (
        pytest.MonkeyPatch.context() as patch,
        pytest.raises(ClaimError, match=r"page taste_test: “.+”.*found: .+"),
    ):
        patch.chdir(REPOSITORY)
        notebook = next(path for path in CHAPTERS if path.stem == "taste_test")
        run_chapter(notebook, results_dir=str(store), output_dir=str(tmp_path))


@pytest.mark.parametrize("make", [permuted, without_effects])
def test_a_store_without_effects_has_all_tables_and_none_of_the_effects(
    make: Callable, tmp_path: Path
) -> None:
    store = make(STORE, tmp_path / "store")
    files = {path.relative_to(STORE) for path in STORE.rglob("*.parquet")}
    assert {path.relative_to(store) for path in store.rglob("*.parquet")} == files
    for table in ("summary", "counts", "steps", "bars", "completions"):
        there, here = (read(root, "countdown", table) for root in (STORE, store))
        assert here.groupby(["seed", "arm"]).size().index.equals(there.groupby(["seed", "arm"]).size().index)
    arms = ("after_searcher", "after_guesser")
    gaps = [solved_difference(read(root, "countdown", "counts"), *arms) for root in (STORE, store)]
    assert gaps[0].lower > 0.2
    assert abs(gaps[1].value) < 0.05 and gaps[1].lower <= 0 <= gaps[1].upper
    searches = [
        of_measure(read(root, "countdown", "summary"), arms[0], "frac_searches") for root in (STORE, store)
    ]
    assert searches[0].value > 0.9 > 0.5 > searches[1].value
