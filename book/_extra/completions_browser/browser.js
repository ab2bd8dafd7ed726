// The completions browser. Reads window.completionsBrowser from data.js; everything in it is written as text.
"use strict";

(() => {
  const data = window.completionsBrowser;
  const root = document.getElementById("completions-browser");
  if (!data || !root || !data.problems.length) return;

  const make = (tag, attributes = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children);
    return node;
  };

  const [RUN_SEED, RUN_MODEL, RUN_WHEN, RUN_PAGE] = [0, 1, 2, 3];
  const state = { seed: data.seeds[0], pair: 0, left: 0, right: 0, filter: "all", problem: 0, sample: 0 };

  // --- Controls ---------------------------------------------------------------------------------------------

  const selects = {};
  const control = (name, label) => {
    selects[name] = make("select", { id: `browser-${name}` });
    return make("p", { class: `eb-control eb-control-${name}` }, make("label", { for: `browser-${name}` }, label), selects[name]);
  };
  const step = (name, by, text, label) => {
    const button = make("button", { type: "button", "aria-label": label }, text);
    button.addEventListener("click", () => move(name, by));
    return button;
  };
  const stepper = (name, label) => {
    const node = control(name, label);
    selects[name].before(step(name, -1, "‹", `Previous ${name}`));
    selects[name].after(step(name, 1, "›", `Next ${name}`));
    return node;
  };
  const controls = make(
    "div",
    { class: "eb-controls" },
    control("pair", "Model"),
    control("seed", "Seed"),
    control("left", "Left"),
    control("right", "Right"),
    control("filter", "Show"),
    stepper("problem", "Problem"),
    stepper("sample", "Sample"),
  );
  const summary = make("p", { class: "eb-browser-summary", role: "status" });
  const panes = make("div", {
    class: "eb-panes",
    tabindex: "0",
    role: "region",
    "aria-label": "Completions side by side; arrow left and right for another problem, with shift for another sample",
  });

  const fill = (name, options, chosen) => {
    const select = selects[name];
    select.replaceChildren();
    for (const [value, text, group] of options) {
      let parent = select;
      if (group !== undefined) {
        parent = [...select.children].find((node) => node.label === group);
        if (!parent) select.append((parent = make("optgroup", { label: group })));
      }
      parent.append(make("option", { value: String(value) }, text));
    }
    select.value = String(chosen);
  };

  // --- What there is to show --------------------------------------------------------------------------------

  const samplesOf = (problem, run) => data.completions[problem][run] || [];
  const countRight = (problem, run) => samplesOf(problem, run).filter(([right]) => right).length;
  const filters = {
    all: ["all problems", () => true],
    more: ["more often right on the right", (p) => countRight(p, state.right) > countRight(p, state.left)],
    fewer: ["less often right on the right", (p) => countRight(p, state.right) < countRight(p, state.left)],
    same: ["equally often right", (p) => countRight(p, state.right) === countRight(p, state.left)],
  };
  const common = () =>
    data.problems.flatMap(([seed], index) =>
      seed === state.seed && samplesOf(index, state.left).length && samplesOf(index, state.right).length ? [index] : [],
    );
  const shownProblems = () => common().filter(filters[state.filter][1]);
  const numSamples = () =>
    Math.min(samplesOf(state.problem, state.left).length, samplesOf(state.problem, state.right).length);

  const usePair = (index) => {
    [, state.seed, state.left, state.right] = data.pairs[index];
    state.pair = index;
  };
  // Prefer a model that was trained further: it has a before and an after.
  const firstPair = (seed) => {
    const own = data.pairs.flatMap((pair, index) => (pair[1] === seed ? [index] : []));
    return own.find((index) => data.pairs[index][2] !== data.pairs[index][3]) ?? own[0];
  };

  // --- Drawing ----------------------------------------------------------------------------------------------

  const completion = (run) => {
    const [right, note, prompt, stretches, cut] = samplesOf(state.problem, run)[state.sample];
    const text = make("p", { class: "eb-text" }, make("span", { class: "eb-prompt" }, prompt));
    for (const [behaviour, words] of stretches) {
      const [name, title] = behaviour ? data.behaviours[behaviour - 1] : [];
      text.append(" ", name ? make("mark", { class: `eb-${name}`, title }, words) : words);
    }
    if (cut) text.append(" ", make("span", { class: "eb-cut" }, `(cut: ${cut} more words)`));
    const [, model, when, page] = data.runs[run];
    return make(
      "figure",
      { class: `eb-completion eb-${right ? "right" : "wrong"}` },
      make("p", { class: "eb-title" }, `${model}, ${when}`),
      text,
      make("figcaption", {}, `${right ? "✓" : "✗"} ${note}. `, make("a", { href: page }, "The run behind it")),
    );
  };

  const draw = () => {
    const problems = shownProblems();
    if (!problems.includes(state.problem)) state.problem = problems[0] ?? -1;
    const some = state.problem >= 0;
    state.sample = some ? Math.min(Math.max(state.sample, 0), numSamples() - 1) : 0;

    fill("seed", data.seeds.map((seed) => [seed, String(seed)]), state.seed);
    selects.seed.parentElement.hidden = data.seeds.length < 2;
    fill("pair", data.pairs.flatMap(([label, seed], i) => (seed === state.seed ? [[i, label]] : [])), state.pair);
    const runs = data.runs.flatMap((run, i) => (run[RUN_SEED] === state.seed ? [[i, run[RUN_WHEN], run[RUN_MODEL]]] : []));
    fill("left", runs, state.left);
    fill("right", runs, state.right);
    fill("filter", Object.entries(filters).map(([name, [text]]) => [name, text]), state.filter);
    fill("problem", problems.map((index) => [index, data.problems[index][2]]), state.problem);
    const mark = (run, i) => (samplesOf(state.problem, run)[i][0] ? "✓" : "✗");
    const samples = some ? [...Array(numSamples()).keys()] : [];
    fill("sample", samples.map((i) => [i, `${i + 1}: ${mark(state.left, i)} ${mark(state.right, i)}`]), state.sample);
    for (const name of ["problem", "sample"]) {
      const [before, after] = selects[name].parentElement.querySelectorAll("button");
      // Disabled in name only: a button that vanishes under the finger loses the keyboard's place.
      before.setAttribute("aria-disabled", String(!some || selects[name].selectedIndex <= 0));
      after.setAttribute("aria-disabled", String(!some || selects[name].selectedIndex >= selects[name].length - 1));
      selects[name].disabled = !some;
    }

    if (!some) {
      summary.textContent = "No problem is of this kind.";
      panes.replaceChildren();
      return;
    }
    const tally = (run) => `${countRight(state.problem, run)} of ${samplesOf(state.problem, run).length}`;
    summary.textContent =
      `Problem ${problems.indexOf(state.problem) + 1} of ${problems.length}: ${data.problems[state.problem][2]}. ` +
      `Samples right: left ${tally(state.left)}, right ${tally(state.right)}.`;
    panes.replaceChildren(...[...new Set([state.left, state.right])].map(completion));
  };

  // --- Moving about -----------------------------------------------------------------------------------------

  const remember = () => {
    const place = new URLSearchParams({
      left: `${state.left}`, right: `${state.right}`, problem: data.problems[state.problem]?.[1] ?? "", sample: `${state.sample}`,
    });
    history.replaceState(null, "", `#${place}`);
  };
  const show = () => {
    draw();
    remember();
  };
  const move = (name, by) => {
    const select = selects[name];
    const index = select.selectedIndex + by;
    if (index < 0 || index >= select.length) return;
    state[name] = Number(select.options[index].value);
    if (name === "problem") state.sample = 0;
    show();
  };
  // An address may name a view. What it names is looked up, never used.
  const recall = () => {
    const place = new URLSearchParams(location.hash.slice(1));
    const [left, right] = ["left", "right"].map((name) => Number(place.get(name) ?? NaN));
    if (!data.runs[left] || !data.runs[right] || data.runs[left][RUN_SEED] !== data.runs[right][RUN_SEED]) return;
    usePair(Math.max(0, data.pairs.findIndex((pair) => pair[1] === data.runs[left][RUN_SEED] && pair[3] === right)));
    Object.assign(state, { left, right, seed: data.runs[left][RUN_SEED] });
    state.problem = common().find((index) => data.problems[index][1] === place.get("problem")) ?? state.problem;
    state.sample = Number(place.get("sample")) || 0;
  };

  controls.addEventListener("change", (event) => {
    const name = event.target.id.replace("browser-", "");
    if (name === "filter") state.filter = event.target.value;
    else state[name] = Number(event.target.value);
    if (name === "seed") usePair(firstPair(state.seed));
    if (name === "pair") usePair(state.pair);
    if (name === "problem") state.sample = 0;
    show();
  });
  panes.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    move(event.shiftKey ? "sample" : "problem", by);
  });

  usePair(firstPair(state.seed));
  recall();
  root.replaceChildren(controls, summary, panes);
  draw();
})();
