"""The pages of the smoke book, as a reader without a network meets them: whole, legible, and usable by ear.

The tests marked `browser` drive headless Chromium and fetch axe-core through npm, once. Where either is missing they
are skipped with the reason, and fail under `--require-browser`, which `.ci/run` gives.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import NoReturn
from urllib.parse import unquote, urlsplit

import pytest
import yaml

from chromium import Page, find_chromium, open_browser
from extrabitter import pipeline
from extrabitter.config import STAGES
from extrabitter.provenance import REPOSITORY, file_sha256

HTML = REPOSITORY / "_build" / "html" / "smoke"
AXE_VERSION = "4.14.1"
AXE_SHA256 = "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"
NARROW, WIDE = 390, 1280  # CSS pixels: a telephone, a desktop


def chosen_pages() -> list[str]:
    """Every page of the table of contents, and of the runs' pages one of each stage."""
    toc = yaml.safe_load((REPOSITORY / "_toc.yml").read_text(encoding="utf-8"))
    pages = [toc["root"], *(entry["file"] for part in toc["parts"] for entry in part["chapters"])]
    jobs = pipeline.make_plan("smoke", REPOSITORY).jobs.values()
    for stage in STAGES:
        first = next(job for job in jobs if job.stage == stage)
        pages += [f"run_pages/{stage}", f"run_pages/{stage}/{first.arm}-seed-{first.seed}"]
    return [*pages, "search", "genindex"]


PAGES = chosen_pages()


@pytest.fixture(scope="module", autouse=True)
def smoke_book() -> None:
    """Say what is missing instead of failing in some odd way."""
    if not HTML.is_dir():
        pytest.fail("no smoke book here: `make test` builds it first, or run `make book PROFILE=smoke`")


# --- What the files say, without a browser ---------------------------------------------------------------------


class Anatomy(HTMLParser):
    """Collects what a page names, links to, loads and shows."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.images: list[dict[str, str | None]] = []
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


def book_pages() -> list[Path]:
    """Every page of the book, without the fragments of HTML that the theme leaves among its assets."""
    return [path for path in sorted(HTML.rglob("*.html")) if "_static" not in path.relative_to(HTML).parts]


def test_no_link_inside_the_book_leads_nowhere_and_nothing_is_loaded_from_elsewhere() -> None:
    pages = book_pages()
    assert {f"{page}.html" for page in PAGES} <= {path.relative_to(HTML).as_posix() for path in pages}
    assert {path.name: found for path in pages if (found := broken_links(path))} == {}


def test_every_image_says_what_it_shows() -> None:
    assert sum(len(anatomy(path).images) for path in book_pages()) > 10
    assert {path.name: found for path in book_pages() if (found := images_without_text(path))} == {}


# --- What a browser shows --------------------------------------------------------------------------------------


def no_browser(request: pytest.FixtureRequest, reason: str) -> NoReturn:
    """Skip the tests that need a browser, or fail them where one is required."""
    if request.config.getoption("--require-browser"):
        pytest.fail(f"--require-browser: {reason}", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def axe(request: pytest.FixtureRequest) -> str:
    """Source of axe-core, fetched once by npm into _build/axe, and held against its hash."""
    folder = REPOSITORY / "_build" / "axe"
    path = folder / "node_modules" / "axe-core" / "axe.min.js"
    if not path.is_file():
        npm = shutil.which("npm")
        if npm is None:
            no_browser(
                request, "npm is not installed (Debian: `apt install npm`), so axe-core cannot be fetched"
            )
        folder.mkdir(parents=True, exist_ok=True)
        options = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-save"]
        command = [npm, "install", "--prefix", str(folder), *options, f"axe-core@{AXE_VERSION}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        if done.returncode or not path.is_file():
            last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
            no_browser(request, f"npm could not fetch axe-core {AXE_VERSION}: {last}")
    assert file_sha256(path) == AXE_SHA256, f"{path} is not axe-core {AXE_VERSION}; remove it"
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def browser(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """One page of a headless browser without a network."""
    program = find_chromium()
    if program is None:
        no_browser(request, "Chromium is not installed (Debian: `apt install chromium`)")
    with open_browser(program, tmp_path_factory.mktemp("chromium")) as page:
        yield page


SETTLED = """(async () => {
  // A colour on its way to another would be judged as it stands.
  const still = document.head.appendChild(document.createElement("style"));
  still.textContent = "*, *::before, *::after { transition: none !important; animation: none !important; }";
  await document.fonts.ready;
  if (window.MathJax && MathJax.startup) await MathJax.startup.promise;
  await new Promise((resolve) => setTimeout(resolve, 50));
})()"""

# Formulae that MathJax has not set, and signs of formulae in running text. What is marked as text is text.
UNRENDERED = r"""(() => {
  const found = [...document.querySelectorAll("span.math, div.math")]
    .filter((node) => !node.querySelector("mjx-container"))
    .map((node) => node.textContent.trim().slice(0, 60));
  found.push(...[...document.querySelectorAll("mjx-merror, [data-mjx-error]")].map((node) => node.textContent));
  const walker = document.createTreeWalker(document.querySelector("article") || document.body, NodeFilter.SHOW_TEXT);
  const textual = "pre, code, script, style, textarea, .mathjax_ignore, .tex2jax_ignore, mjx-container";
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const signs = /\\\(|\\\[|\$\$|\$[^\s$][^$]*\$|\\begin\{|\{(glue|cite|term|ref|eq|download)[:\w]*\}/;
    if (signs.test(node.data) && !node.parentElement.closest(textual)) found.push(node.data.trim().slice(0, 60));
  }
  return found;
})()"""

IMAGES = """[...document.images].filter((image) => !image.complete || !image.naturalWidth
  || (!image.alt.trim() && image.getAttribute("role") !== "presentation")).map((image) => image.src)"""

TOO_WIDE = """document.documentElement.scrollWidth - document.documentElement.clientWidth"""

# The inside of a formula, thousands of shapes, is hidden from readers who hear the page.
AXE = """axe.run({exclude: [["mjx-container svg"]]}, {resultTypes: ["violations"], preload: false})
  .then((result) => result.violations
  .filter((rule) => ["serious", "critical"].includes(rule.impact))
  .map((rule) => `${rule.id} (${rule.impact}): ${rule.nodes.map((node) => node.target.join(" ")).join(", ")}`))"""

SCHEMES = ("file:", "data:", "blob:", "about:")


def reported(page: Page) -> list[str]:
    """Requests that failed or left the book, exceptions, and errors on the console, since the page was opened."""
    found = []
    for event in page.events:
        method, params = event.get("method"), event.get("params", {})
        if method == "Network.requestWillBeSent":
            if not params["request"]["url"].startswith(SCHEMES):
                found.append(f"request: {params['request']['url']}")
        elif method == "Network.loadingFailed" and not params.get("canceled"):
            found.append(f"failed request: {params['type']} {params['errorText']}")
        elif method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            found.append(f"exception: {details.get('exception', {}).get('description', details['text'])}")
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert"):
            found.append(f"console: {' '.join(str(argument.get('value')) for argument in params['args'])}")
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            found.append(f"log: {params['entry']['text']} {params['entry'].get('url', '')}")
    return found


def findings(page: Page, url: str, axe: str) -> list[str]:
    """Open a page narrow and light, then wide and dark, and list everything that is wrong with it."""
    page.resize(NARROW)
    page.open(url)
    page.evaluate(SETTLED)
    found = [f"unrendered: {text}" for text in page.evaluate(UNRENDERED)]
    found += [f"image: {source}" for source in page.evaluate(IMAGES)]
    page.evaluate(f"{axe};0")
    for width, theme in ((NARROW, "light"), (WIDE, "dark")):
        page.resize(width)
        page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
        page.evaluate("new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve, 50)))")
        wider = page.evaluate(TOO_WIDE)
        found += [f"scrolls sideways by {wider} px at {width} px"] if wider > 0 else []
        found += [f"axe at {width} px, {theme}: {finding}" for finding in page.evaluate(AXE)]
    return found + reported(page)


@pytest.mark.browser
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_whole_legible_and_accessible_without_a_network(name: str, browser: Page, axe: str) -> None:
    found = findings(browser, (HTML / f"{name}.html").as_uri(), axe)
    assert not found, "\n".join(found)


@pytest.mark.browser
def test_search_finds_a_word_of_the_book(browser: Page) -> None:
    browser.open((HTML / "search.html").as_uri() + "?q=backtracking")
    browser.evaluate(SETTLED)
    count = "document.querySelectorAll('#search-results li a').length"
    browser.evaluate(
        f"(async () => {{ for (let i = 0; i < 100 && !({count}); i++)"
        " await new Promise((resolve) => setTimeout(resolve, 50)); })()"
    )
    assert browser.evaluate(count) >= 3
    assert reported(browser) == []


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
    images = (
        '<img src="figures/one.svg" alt="figures/one.svg"><img src="page.html" alt=""><img src="page.html">'
    )
    page.write_text(SOUND.replace("<p>", f"{links}{images}<p>", 1), encoding="utf-8")
    assert broken_links(page) == [
        "no such file: absent.html",
        "no such place: #nowhere",
        "no such file: figures/one.svg",
    ]
    assert images_without_text(page) == ["figures/one.svg", "page.html", "page.html"]
    page.write_text(SOUND.replace("<p>", '<script src="https://a.invalid/x.js"></script><p>', 1))
    anatomy.cache_clear()
    assert broken_links(page) == ["loaded from elsewhere: https://a.invalid/x.js"]
