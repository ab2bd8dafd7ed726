// What the theme leaves out or gets wrong. Loaded on every page.
"use strict";

// Extracts of pages among the results of a search need a server; a book read from a disk has none.
if (location.protocol === "file:" && typeof DOCUMENTATION_OPTIONS !== "undefined") {
  DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
}

// Paper is light.
let themeOnScreen;
window.addEventListener("beforeprint", () => {
  themeOnScreen = document.documentElement.dataset.theme;
  document.documentElement.dataset.theme = "light";
});
window.addEventListener("afterprint", () => {
  document.documentElement.dataset.theme = themeOnScreen;
});

// Names for readers who hear the page instead of seeing it.
document.addEventListener("DOMContentLoaded", () => {
  // The arrows that unfold the table of contents have no text.
  for (const summary of document.querySelectorAll(".bd-sidenav li > details > summary")) {
    const link = summary.closest("li").querySelector("a");
    summary.setAttribute("aria-label", `Pages below “${link ? link.textContent.trim() : "this one"}”`);
  }
  // What these show is their name already; the theme's own label hides it.
  for (const labelled of document.querySelectorAll("details.hide > summary[aria-label], .search-button-field")) {
    labelled.removeAttribute("aria-label");
  }
  // Font Awesome turns the titles of three icons, sooner or later, into text of one button that has a name already.
  const withoutTitles = (button) => {
    for (const title of button.querySelectorAll("svg > title")) {
      title.parentElement.setAttribute("aria-hidden", "true");
      title.remove();
    }
    for (const icon of button.querySelectorAll("[title]")) icon.removeAttribute("title");
  };
  for (const button of document.querySelectorAll(".theme-switch-button")) {
    withoutTitles(button);
    new MutationObserver(() => withoutTitles(button)).observe(button, { childList: true, subtree: true });
  }
  // A browser shows the title of a link to a mouse only, and late; the style sheet shows it sooner and to keys too.
  for (const link of document.querySelectorAll('a.reference.internal[title][href*="bibliography.html#"]')) {
    link.dataset.entry = link.title;
    link.setAttribute("aria-description", link.title);
    link.removeAttribute("title");
    link.classList.add("eb-cites");
  }
  // Docutils calls the bibliography a list whose entries are none.
  for (const list of document.querySelectorAll(".citation-list[role=list]")) list.removeAttribute("role");
});
