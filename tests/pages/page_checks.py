"""What a browser can find wrong with a page: failed requests, errors, unrendered maths, width, accessibility."""

from __future__ import annotations

from chromium import Page

NARROW, WIDE = 390, 1280  # CSS pixels: a telephone, a desktop

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
