"""The pages of a book, as a reader without a network meets them: whole, legible, and usable by ear.

The smoke book's, or those of the profile that `--book` names; `make check-published` asks so of the published one.

The tests marked `browser` drive headless Chromium and fetch axe-core through npm, once. Where either is missing they
are skipped with the reason, and fail under `--require-browser`, which `.ci/run` gives.
"""

from __future__ import annotations

import json
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from chromium import Page
from page_checks import NARROW, SETTLED, findings, reported

from extrabitter.digests import REPOSITORY

BOOKS = REPOSITORY / "_build" / "html"


def chosen_pages(book: str) -> list[str]:
    """Every page of the table of contents, worked runs too, and those that the theme makes."""
    toc = yaml.safe_load((REPOSITORY / "_toc.yml").read_text(encoding="utf-8"))
    pages = [toc["root"], *(entry["file"] for part in toc["parts"] for entry in part["chapters"])]
    worked = sorted(f"worked/{path.stem}" for path in (BOOKS / book / "worked").glob("*.html"))
    return [*pages, *worked, "search", "genindex"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Ask each chosen page of the book that the command line names."""
    if "name" in metafunc.fixturenames:
        metafunc.parametrize("name", chosen_pages(metafunc.config.getoption("--book")))


@pytest.fixture(scope="module")
def html(request: pytest.FixtureRequest) -> Path:
    """Folder of the book's pages; says what is missing instead of failing in some odd way."""
    book = request.config.getoption("--book")
    if not (BOOKS / book).is_dir():
        pytest.fail(f"no book of profile {book} here: `make book PROFILE={book}` builds it")
    return BOOKS / book


# --- What the files say, without a browser ---------------------------------------------------------------------


class Anatomy(HTMLParser):
    """Collects what a page names, links to, loads and shows."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids, self.links, self.loads = set[str](), list[str](), list[str]()
        self.images, self.figures = list[dict[str, str | None]](), list[dict[str, str | None]]()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids |= {value for name, value in attrs if name in ("id", "name") and value}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"] or "")
        if tag == "link" and given.get("rel") in ("stylesheet", "icon", "preload"):
            self.loads.append(given.get("href") or "")
        if tag in ("script", "img", "iframe", "source", "video", "audio") and given.get("src"):
            self.loads.append(given["src"] or "")
        if tag == "img":
            self.images.append(given)
        if tag == "svg" and given.get("class") == "eb-plot":
            self.figures.append(given)


@cache
def anatomy(path: Path) -> Anatomy:
    return Anatomy(path.read_text(encoding="utf-8"))


def broken_links(path: Path) -> list[str]:
    """Links and loaded files of a page that lead nowhere in the book; addresses elsewhere are not followed."""
    page, broken = anatomy(path), []
    for link in [*page.links, *page.loads]:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            if link in page.loads:
                broken.append(f"loaded from elsewhere: {link}")
            continue
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        if not target.is_file():
            broken.append(f"no such file: {link}")
        elif parts.fragment and unquote(parts.fragment) not in anatomy(target).ids:
            broken.append(f"no such place: {link}")
    return broken


def images_without_text(path: Path) -> list[str]:
    """Images without alternative text, or with their file's name for one, as Sphinx writes it by default."""
    found = []
    for image in anatomy(path).images:
        text, source = (image.get("alt") or "").strip(), image.get("src") or ""
        if not text or Path(source).stem in text or text.endswith((".svg", ".png")):
            found.append(source)
    return found


def book_pages(html: Path) -> list[Path]:
    """Every page of the book, without the fragments of HTML that the theme leaves among its assets."""
    return [path for path in sorted(html.rglob("*.html")) if "_static" not in path.relative_to(html).parts]


def test_no_link_inside_the_book_leads_nowhere_and_nothing_is_loaded_from_elsewhere(
    html: Path, request: pytest.FixtureRequest
) -> None:
    book = request.config.getoption("--book")
    pages, chosen = book_pages(html), chosen_pages(book)
    assert {f"{page}.html" for page in chosen} <= {path.relative_to(html).as_posix() for path in pages}
    assert any(page.startswith("worked/") for page in chosen), "no stage has a page of a worked run"
    assert {path.name: found for path in pages if (found := broken_links(path))} == {}


def test_every_image_and_figure_says_what_it_shows(html: Path) -> None:
    pages = book_pages(html)
    assert {path.name: found for path in pages if (found := images_without_text(path))} == {}
    figures = [figure for path in pages for figure in anatomy(path).figures]
    assert len(figures) > 5 and all(len(figure.get("aria-label") or "") > 30 for figure in figures)
    assert all(figure.get("role") == "img" for figure in figures)


def test_no_page_says_that_something_was_not_run_or_warns(html: Path) -> None:
    for path in book_pages(html):
        text = path.read_text(encoding="utf-8")
        for words in ("-dirty", "not in this profile", "bd-header-announcement__content"):
            assert words not in text, path.name


# --- What a browser shows --------------------------------------------------------------------------------------


@pytest.mark.browser
def test_a_page_is_whole_legible_and_accessible(name: str, html: Path, browser: Page, axe: str) -> None:
    found = findings(browser, (html / f"{name}.html").as_uri(), axe)
    assert not found, "\n".join(found)


@pytest.mark.browser
def test_figures_have_the_pages_colours_and_suffice_for_a_telephone(html: Path, browser: Page) -> None:
    browser.resize(NARROW)
    browser.open((html / "taste_test.html").as_uri())
    browser.evaluate(SETTLED)
    sizes = browser.evaluate(
        "[...document.querySelectorAll('.eb-plot text')].map((node) => parseFloat(getComputedStyle(node).fontSize)"
        " * node.ownerSVGElement.getBoundingClientRect().width / node.ownerSVGElement.viewBox.baseVal.width)"
    )
    assert len(sizes) > 20 and min(sizes) >= 9
    seen = {}
    for theme in ("light", "dark"):
        browser.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
        browser.evaluate(SETTLED)
        seen[theme] = browser.evaluate(
            "[...document.querySelectorAll('.eb-plot text, .eb-plot path')].filter((node) => !node.closest('defs'))"
            ".map((node) => getComputedStyle(node)).map((style) => [style.fill, style.stroke])"
        )
    ink = {theme: {fill for fill, _ in found} for theme, found in seen.items()}
    assert "rgb(34, 34, 34)" in ink["light"] and "rgb(34, 34, 34)" not in ink["dark"]
    assert "rgb(0, 0, 0)" not in {colour for pair in seen["dark"] for colour in pair}
    assert "rgb(255, 255, 255)" not in ink["dark"], "no box"


@pytest.mark.browser
def test_search_finds_a_word_of_the_book(html: Path, browser: Page) -> None:
    browser.open((html / "search.html").as_uri() + "?q=backtracking")
    browser.evaluate(SETTLED)
    count = "document.querySelectorAll('#search-results li a').length"
    browser.evaluate(
        f"(async () => {{ for (let i = 0; i < 100 && !({count}); i++)"
        " await new Promise((resolve) => setTimeout(resolve, 50)); })()"
    )
    assert browser.evaluate(count) >= 3
    assert reported(browser) == []


@pytest.mark.browser
def test_a_page_is_printed_light_and_stays_dark_on_the_screen(html: Path, browser: Page) -> None:
    browser.open((html / "index.html").as_uri())
    browser.evaluate(SETTLED)
    browser.evaluate(
        "document.documentElement.dataset.theme = 'dark'; window.printed = [];"
        "matchMedia('print').addEventListener('change', (event) => event.matches"
        " && window.printed.push(document.documentElement.dataset.theme))"
    )
    browser.send("Page.printToPDF")
    assert browser.evaluate("window.printed") == ["light"]
    assert browser.evaluate("document.documentElement.dataset.theme") == "dark"


@pytest.mark.browser
def test_a_citation_shows_its_entry_to_the_keyboard_too(html: Path, browser: Page) -> None:
    browser.open((html / "why_rl_is_search.html").as_uri())
    browser.evaluate(SETTLED)
    # The title is focused by script, the first citation below it by key.
    browser.evaluate("document.querySelector('article h1 a').focus()")
    for _ in range(20):
        browser.press("Tab", 9)
        if browser.evaluate("document.activeElement.matches('.eb-cites')"):
            break
    shown = "getComputedStyle(document.activeElement, '::after').content"
    entry = browser.evaluate("document.activeElement.getAttribute('aria-description')")
    assert entry and entry == browser.evaluate("document.querySelector('a.eb-cites').dataset.entry")
    assert len(entry) > 40 and browser.evaluate(shown) == json.dumps(entry, ensure_ascii=False)


# --- The checks themselves -------------------------------------------------------------------------------------

HEAD = '<!doctype html><html lang="en-GB"><head><meta name="viewport" content="width=device-width"><title>t</title>'
SOUND = f"{HEAD}</head><body><main><h1>A page</h1><p>All is well.</p></main></body></html>"
DEFECTS = {
    '<img src="absent.png" alt="a picture">': "failed request: Image net::ERR_FILE_NOT_FOUND",
    '<script src="https://elsewhere.invalid/x.js"></script>': "request: https://elsewhere.invalid/x.js",
    "<script>console.error('alas')</script>": "console: alas",
    "<script>throw new Error('alas')</script>": "exception: Error: alas",
    '<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=">': "image: data:image/gif",
    "<p>The mean is \\(x^2\\).</p>": "unrendered: The mean is",
    "<p>The mean is $x$.</p>": "unrendered: The mean is",
    '<span class="math">x^2</span>': "unrendered: x^2",
    '<div style="width:600px">wide</div>': "scrolls sideways by",
    '<p style="color:#ddd;background:#fff">pale</p>': "color-contrast (serious)",
    "<button></button>": "button-name (critical)",
}


@pytest.mark.browser
@pytest.mark.parametrize("markup", DEFECTS)
def test_the_browser_checks_see_each_defect(markup: str, browser: Page, axe: str, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(SOUND, encoding="utf-8")
    assert findings(browser, page.as_uri(), axe) == []
    page.write_text(SOUND.replace("<p>", f"{markup}<p>", 1), encoding="utf-8")
    found = findings(browser, page.as_uri(), axe)
    assert any(DEFECTS[markup] in finding for finding in found), found


def test_the_file_checks_see_each_defect(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    links = '<a href="absent.html">a</a><a href="#nowhere">b</a><a href="#here">c</a><a id="here">d</a>'
    images = '<img src="one.svg" alt="one.svg"><img src="page.html" alt=""><img src="page.html">'
    page.write_text(SOUND.replace("<p>", f"{links}{images}<p>", 1), encoding="utf-8")
    absent = [f"no such file: {name}" for name in ("absent.html", "one.svg")]
    assert sorted(broken_links(page)) == [*absent, "no such place: #nowhere"]
    assert images_without_text(page) == ["one.svg", "page.html", "page.html"]
    page.write_text(SOUND.replace("<p>", '<script src="https://a.invalid/x.js"></script><p>', 1))
    anatomy.cache_clear()
    assert broken_links(page) == ["loaded from elsewhere: https://a.invalid/x.js"]
