"""The prose types no result, and everything it points at exists."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = sorted((ROOT / "notebooks/chapters").glob("*.ipynb"))
PAGES = sorted((ROOT / "book").glob("*.md"))

# Names and conventions that hold a digit and are no result: metrics, experiments, papers, what an interval is.
NAMES = re.compile(
    r"pass@\d+|\bE\d+\b|\bR1\b|arXiv[: ]\d{4}\.\d{5}|\b0/1\b|is 1 on right answers"
    r"|\b95 %(?= (?:\w+ )?intervals?\b)|middle 80 %"
)
BIB_KEY = re.compile(r"^@\w+\{([^,]+),", re.MULTILINE)


def cells(notebook: Path, kind: str) -> list[str]:
    found = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in found if cell["cell_type"] == kind]


def prose(page: Path) -> str:
    if page.suffix == ".md":
        return page.read_text(encoding="utf-8")
    return "\n\n".join(cells(page, "markdown"))


def plain(text: str) -> str:
    """Running text: without code, formulae, roles, directives' options, labels and addresses."""
    text = re.sub(r"^(`{3,})\{math\}.*?^\1", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^(`{3,})(?!\{)\w*\n.*?^\1", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^`{3,}.*$|^:::.*$|^:[\w-]+:(?! ?.*alt).*$|^\([\w:.-]+\)=$", "", text, flags=re.MULTILINE)
    text = re.sub(r"\$\$.*?\$\$|\$[^$\n]+\$", "", text, flags=re.DOTALL)
    text = re.sub(r"\\begin\{(\w+\*?)\}.*?\\end\{\1\}", "", text, flags=re.DOTALL)
    text = re.sub(r"(\{[\w:+-]+\})?`[^`]*`", "", text)
    text = re.sub(r"\]\([^)]*\)|<https?:[^>]*>", "]", text)
    return NAMES.sub("", text)


@pytest.mark.parametrize("page", [*CHAPTERS, *PAGES], ids=lambda page: page.stem)
def test_no_result_is_typed(page: Path) -> None:
    cited = re.compile(r"\{cite[\w:]*\}")
    for paragraph in re.split(r"\n\s*\n", prose(page)):
        if not cited.search(paragraph):
            # Ordered lists begin with digits, which count nothing.
            running = re.sub(r"^\s*\d+\. ", "", plain(paragraph), flags=re.MULTILINE)
            assert not re.search(r"\d", running), f"{page.name}: digits in {running.strip()[:200]!r}"


@pytest.mark.parametrize("text", ["It rose to 63 %.", "a gain of 0.2 points", "* 12 of 40 runs"])
def test_the_scan_sees_a_typed_result(text: str) -> None:
    assert re.search(r"\d", plain(text))


@pytest.mark.parametrize("text", ["$p^2$", "`x = 1`", "pass@8", "{glue:text}`a_1`", "[a](https://b.c/2025)"])
def test_the_scan_lets_names_and_formulae_through(text: str) -> None:
    assert not re.search(r"\d", plain(text))


@pytest.mark.parametrize("page", [*CHAPTERS, *PAGES], ids=lambda page: page.stem)
def test_every_citation_has_an_entry(page: Path) -> None:
    keys = set(BIB_KEY.findall((ROOT / "book/references.bib").read_text(encoding="utf-8")))
    for group in re.findall(r"\{cite[\w:]*\}`([^`]+)`", prose(page)):
        for key in group.split(","):
            assert key.strip() in keys, f"{page.name}: no entry {key!r}"


def test_bibliography_keys_are_unique_and_entries_have_author_title_year() -> None:
    text = (ROOT / "book/references.bib").read_text(encoding="utf-8")
    keys = BIB_KEY.findall(text)
    assert len(keys) == len(set(keys)) >= 20
    for entry in re.split(r"(?m)^@", text)[1:]:
        for field in ("author", "title", "year"):
            assert re.search(rf"^\s*{field}\s*=", entry, re.MULTILINE), f"{entry.splitlines()[0]}: no {field}"


@pytest.mark.parametrize("page", [*CHAPTERS, *PAGES], ids=lambda page: page.stem)
def test_links_between_pages_lead_to_pages(page: Path) -> None:
    names = {other.stem for other in [*CHAPTERS, *PAGES]}
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if not re.match(r"https?:|#|mailto:", target):
            stem = target.split("#")[0].lstrip("/").removesuffix(".md").removesuffix(".ipynb")
            assert stem in names, f"{page.name}: no page {target!r}"


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda page: page.stem)
def test_every_figure_has_alt_text_a_name_a_caption_and_code_that_draws_it(chapter: Path) -> None:
    code = "\n".join(cells(chapter, "code"))
    for block in re.findall(r"^```\{figure\} (.*?)^```", prose(chapter), re.DOTALL | re.MULTILINE):
        path, *rest = block.strip().splitlines()
        options = [line for line in rest if line.startswith(":")]
        assert any(line.startswith(":name: ") for line in options), f"{path}: no name"
        assert any(len(line) > 30 for line in options if line.startswith(":alt: ")), f"{path}: no alt text"
        assert len("".join(rest[len(options) :]).strip()) > 40, f"{path}: no caption"
        key = Path(path).stem
        # Keys may be composed of the chapter's name and their own.
        drawn = f'"{key}"' in code or f'}}{key.removeprefix(chapter.stem)}"' in code
        assert drawn, f"{chapter.name} draws no {path}"


def test_the_table_of_contents_lists_every_page_once() -> None:
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    listed = [toc["root"]] + [entry["file"] for part in toc["parts"] for entry in part["chapters"]]
    assert sorted(listed) == sorted(page.stem for page in [*CHAPTERS, *PAGES])
    assert "runs" in listed, "the staging puts the pages of runs below it"


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda page: page.stem)
def test_a_chapter_is_output_free_and_takes_the_three_parameters(chapter: Path) -> None:
    notebook = json.loads(chapter.read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    (parameters,) = [cell for cell in code if "parameters" in cell["metadata"].get("tags", [])]
    names = re.findall(r"^(\w+): str = \"", "".join(parameters["source"]), re.MULTILINE)
    assert names == ["results_dir", "output_dir", "profile"]
    assert not re.search(r"^(import|from) torch", "\n".join(cells(chapter, "code")), re.MULTILINE)


def test_chapters_open_with_their_question_and_their_answer() -> None:
    for page in CHAPTERS:
        opening = prose(page)[:1800]
        assert opening.startswith("# "), page
        assert "**The question.**" in opening and "**The answer" in opening, page


def test_the_citation_file_has_what_the_format_requires_and_cites_essay_and_references() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["cff-version"] == "1.2.0" and citation["type"] in ("software", "dataset")
    for work in [citation["preferred-citation"], *citation["references"]]:
        assert {"type", "title", "authors"} <= work.keys() and work["type"] in ("article", "generic")
        assert all({"family-names", "given-names"} <= author.keys() for author in work["authors"])
        assert isinstance(work["year"], int) and work["url"].startswith("https://")
        assert all(set(other) == {"type", "value"} for other in work.get("identifiers", []))
    cited = {author["family-names"] for work in citation["references"] for author in work["authors"][:1]}
    assert cited == {"Qi", "Gandhi", "Liu", "von Werra", "Xie", "Zeng"}
    assert citation["version"] in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_british_spelling_is_kept() -> None:
    american = re.compile(r"\b(behavior|optimiz|tokeniz|color|analyz|summariz|center)\w*", re.IGNORECASE)
    for page in [*CHAPTERS, *PAGES, ROOT / "README.md"]:
        text = page.read_text(encoding="utf-8") if page.name == "README.md" else prose(page)
        text = re.sub(r"`[^`]*`|\*[^*]+\*", "", plain(text))
        assert not american.search(text), f"{page.name}: {american.search(text)}"


def test_terms_are_linked_to_the_glossary_and_stand_there() -> None:
    glossary = (ROOT / "book/glossary.md").read_text(encoding="utf-8")
    terms = set(re.findall(r"^(\S.*)\n  ", glossary, re.MULTILINE))
    linked: dict[str, str] = {}
    for page in [*CHAPTERS, *PAGES]:
        for text in re.findall(r"\{term\}`([^`]+)`", prose(page)):
            target = re.search(r"<([^>]+)>$", text)
            linked[target[1] if target else text] = page.name
    assert not linked.keys() - terms, {term: page for term, page in linked.items() if term not in terms}
    assert len(linked) >= 12 and len(set(linked.values())) >= 6


def test_the_page_that_says_how_to_cite_agrees_with_the_citation_file_and_the_bibliography() -> None:
    def fields(entry: str) -> dict[str, str]:
        return {
            name: value.strip("{}")
            for name, value in re.findall(r"^\s*(\w+)\s*=\s*(\{.*\})", entry, re.MULTILINE)
        }

    page = (ROOT / "book/cite.md").read_text(encoding="utf-8")
    book, essay = (
        fields(block) for block in re.findall(r"^```bibtex\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    )
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert book["author"].lower() == citation["authors"][0]["name"].lower()
    assert (book["title"], book["version"]) == (citation["title"], str(citation["version"]))
    assert book["year"] == str(citation["date-released"])[:4]
    entries = re.split(r"(?m)^@", (ROOT / "book/references.bib").read_text(encoding="utf-8"))
    (listed,) = [fields(entry) for entry in entries if entry.startswith("misc{qi2025extrabitter,")]
    assert essay == listed
