// The models in the page: a Llama's forward pass, judges of what it writes, and what a reader plays with.
// Weights and problems are scripts beside this one, because a page read from a disk may fetch nothing; weights are loaded
// when a button asks for them. Whatever a reader or a model writes enters the page as text.
"use strict";

window.ebPlay ??= (() => {
  const HERE = document.currentScript.src;
  const BYTES_OF_HALF = 2;
  const split = (text) => text.trim().split(/\s+/).filter(Boolean);

  // --- The model --------------------------------------------------------------------------------------------

  const fromHalf = (bits) => {
    const [sign, exponent, fraction] = [bits >> 15 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
    return sign * (exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24);
  };

  // A matrix, its rows one behind the other, times a vector. Four sums at a time: one would wait for itself.
  const times = (matrix, vector) => {
    const width = vector.length;
    const product = new Float32Array(matrix.length / width);
    for (let row = 0, start = 0; row < product.length; row += 1, start += width) {
      let [a, b, c, d] = [0, 0, 0, 0];
      for (let i = 0; i < width; i += 4) {
        a += matrix[start + i] * vector[i];
        b += matrix[start + i + 1] * vector[i + 1];
        c += matrix[start + i + 2] * vector[i + 2];
        d += matrix[start + i + 3] * vector[i + 3];
      }
      product[row] = a + b + c + d;
    }
    return product;
  };

  const add = (vector, other) => {
    for (let i = 0; i < vector.length; i += 1) vector[i] += other[i];
  };

  const normed = (vector, weights, epsilon) => {
    const square = vector.reduce((sum, value) => sum + value * value, 0) / vector.length;
    return vector.map((value, i) => (value / Math.sqrt(square + epsilon)) * weights[i]);
  };

  const softmax = (logits) => {
    const largest = logits.reduce((most, value) => Math.max(most, value), -Infinity);
    const chances = logits.map((value) => Math.exp(value - largest));
    const total = chances.reduce((sum, value) => sum + value, 0);
    return chances.map((value) => value / total);
  };

  // A Llama as Hugging Face writes it, with a cache of keys and values. Every width is a multiple of four.
  class Model {
    constructor({ config, words, weights }) {
      const bytes = Uint8Array.from(atob(weights), (char) => char.charCodeAt(0));
      const view = new DataView(bytes.buffer);
      const start = 8 + Number(view.getBigUint64(0, true));
      const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, start)));
      const tensor = (name) => {
        const [begin, end] = header[name].data_offsets;
        const values = new Float32Array((end - begin) / BYTES_OF_HALF);
        for (let i = 0; i < values.length; i += 1) values[i] = fromHalf(view.getUint16(start + begin + BYTES_OF_HALF * i, true));
        return values;
      };
      Object.assign(this, { config, words, seen: [] });
      this.ids = new Map(words.map((word, id) => [word, id]));
      this.embedding = tensor("model.embed_tokens.weight");
      this.head = "lm_head.weight" in header ? tensor("lm_head.weight") : this.embedding;
      this.norm = tensor("model.norm.weight");
      this.size = config.head_dim ?? config.hidden_size / config.num_attention_heads;
      const theta = config.rope_parameters?.rope_theta ?? config.rope_theta;
      this.frequencies = Array.from({ length: this.size / 2 }, (_, i) => theta ** ((-2 * i) / this.size));
      const cache = config.max_position_embeddings * config.num_key_value_heads * this.size;
      this.layers = Array.from({ length: config.num_hidden_layers }, (_, index) => {
        const part = (name) => tensor(`model.layers.${index}.${name}.weight`);
        const [query, key, value, out] = [..."qkvo"].map((letter) => part(`self_attn.${letter}_proj`));
        const [gate, up, down] = ["gate", "up", "down"].map((name) => part(`mlp.${name}_proj`));
        const [first, second] = ["input", "post_attention"].map((name) => part(`${name}_layernorm`));
        const [keys, values] = [new Float32Array(cache), new Float32Array(cache)];
        return { query, key, value, out, gate, up, down, first, second, keys, values };
      });
    }

    // Turn each head by the position; a pair's other half lies half a head further on.
    rotate(vector) {
      const half = this.size / 2;
      for (let i = 0; i < half; i += 1) {
        const angle = this.seen.length * this.frequencies[i];
        const [cosine, sine] = [Math.cos(angle), Math.sin(angle)];
        for (let j = i; j < vector.length; j += this.size) {
          const [left, right] = [vector[j], vector[j + half]];
          vector[j] = left * cosine - right * sine;
          vector[j + half] = right * cosine + left * sine;
        }
      }
    }

    attend(query, { keys, values }) {
      const { num_attention_heads: heads, num_key_value_heads: shared } = this.config;
      const [size, width] = [this.size, shared * this.size];
      const mixed = new Float32Array(query.length);
      for (let head = 0; head < heads; head += 1) {
        const [mine, theirs] = [head * size, Math.floor((head * shared) / heads) * size];
        const scores = new Float32Array(this.seen.length + 1);
        for (let at = 0; at < scores.length; at += 1) {
          for (let i = 0; i < size; i += 1) scores[at] += query[mine + i] * keys[at * width + theirs + i];
          scores[at] /= Math.sqrt(size);
        }
        softmax(scores).forEach((share, at) => {
          for (let i = 0; i < size; i += 1) mixed[mine + i] += share * values[at * width + theirs + i];
        });
      }
      return mixed;
    }

    // Read one token more; return the logits of the next.
    step(id) {
      const { hidden_size: width, rms_norm_eps: epsilon } = this.config;
      const state = this.embedding.slice(id * width, (id + 1) * width);
      for (const layer of this.layers) {
        const inner = normed(state, layer.first, epsilon);
        const [query, key, value] = [layer.query, layer.key, layer.value].map((matrix) => times(matrix, inner));
        this.rotate(query);
        this.rotate(key);
        layer.keys.set(key, this.seen.length * key.length);
        layer.values.set(value, this.seen.length * value.length);
        add(state, times(layer.out, this.attend(query, layer)));
        const outer = normed(state, layer.second, epsilon);
        const [gate, up] = [times(layer.gate, outer), times(layer.up, outer)];
        add(state, times(layer.down, gate.map((x, i) => (x / (1 + Math.exp(-x))) * up[i])));
      }
      this.seen.push(id);
      return times(this.head, normed(state, this.norm, epsilon));
    }

    // Read a text from its beginning; what was read before and is the same is not read again.
    read(words) {
      const ids = ["<bos>", ...words].map((word) => this.ids.get(word) ?? this.ids.get("<unk>"));
      const differs = ids.findIndex((id, at) => id !== this.seen[at]);
      this.seen.length = Math.min(differs < 0 ? ids.length : differs, ids.length - 1);
      return ids.slice(this.seen.length).map((id) => this.step(id)).at(-1);
    }
  }

  const seeded = (seed) => () => {
    // mulberry32, public domain
    seed = (seed + 0x6d2b79f5) | 0;
    let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };

  const draw = (chances, uniform) => {
    let left = uniform;
    const found = chances.findIndex((chance) => (left -= chance) < 0);
    return found < 0 ? chances.indexOf(Math.max(...chances)) : found;
  };

  // Write a completion, a word at a time, at temperature 1, or the likeliest words where there is no `random`. `bias` is
  // added to the logits of the words that open a search until one of them is written; `search` is their chance together.
  function* write(model, prompt, { cap, random = null, opens = [], bias = 0, forced = () => null }) {
    const words = [];
    let begun = false;
    let logits = model.read(prompt);
    while (words.length < cap) {
      if (!begun && bias) for (const word of opens) logits[model.ids.get(word)] += bias;
      const chances = softmax(logits);
      const search = begun ? 0 : opens.reduce((sum, word) => sum + chances[model.ids.get(word)], 0);
      const drawn = random ? draw(chances, random()) : logits.indexOf(Math.max(...logits));
      const word = forced(words) ?? model.words[drawn];
      if (word === "<eos>") return;
      begun ||= opens.includes(word);
      words.push(word);
      yield { word, search };
      logits = model.step(model.ids.get(word));
    }
  }

  const loading = new Map();
  const load = (name) => {
    if (!loading.has(name)) {
      const script = make("script", { src: new URL(`${name.replace("/", "-")}.js`, HERE).href });
      const loaded = new Promise((resolve, reject) => {
        script.addEventListener("load", () => resolve(new Model(window.ebModels[name])));
        script.addEventListener("error", () => {
          loading.delete(name); // so that another press tries again
          reject(new Error(`no weights of ${name}`));
        });
      });
      loading.set(name, loaded);
      document.head.append(script);
    }
    return loading.get(name);
  };

  // --- Judges: the same as the book's verifiers, and as bounded ----------------------------------------------

  const MAX_VALUE = 60;
  const MAX_CHARACTERS = 10_000;
  const KNOWN = new Set("+ - * / = , : . numbers target think check yes no back need aim answer".split(" "));
  const isNumber = (word) => /^(\d|[1-5]\d|60)$/.test(word ?? "");
  const combine = (left, sign, right) => {
    const result = sign === "+" ? left + right : sign === "-" ? left - right : left * right;
    return result >= 0 && result <= MAX_VALUE ? result : null;
  };
  const inOrder = (numbers) => [...numbers].sort((a, b) => a - b).join(" ");
  const remove = (list, item) => list.includes(item) && list.splice(list.indexOf(item), 1).length > 0;

  // Carry out an attempt; enter the numbers that it leaves on its way, and the way there, into `paths`.
  const replay = (numbers, steps, target, paths) => {
    const left = [...numbers];
    const path = paths.get(inOrder(left));
    const turned = steps.map(([a, sign, b, result]) => ("+*".includes(sign) && a < b ? [b, sign, a, result] : [a, sign, b, result]));
    const key = [...(path ?? []), ...turned].map(String).sort().join(";");
    const fails = (reason) => ({ reason, value: null, key });
    if (!path) return fails("numbers_not_reached");
    for (const [index, [a, sign, b, result]] of turned.entries()) {
      if (sign === "/") return fails("operation_not_allowed");
      if (!remove(left, a) || !remove(left, b)) return fails("number_not_available");
      if (combine(a, sign, b) !== result) return fails("wrong_arithmetic");
      left.push(result);
      if (left.length > 1) paths.set(inOrder(left), [...path, ...turned.slice(0, index + 1)]);
    }
    if (left.length > 1) return fails("numbers_unused");
    return { reason: left[0] === target ? "correct" : "wrong_value", value: left[0], key };
  };

  // Read a Countdown completion as far as the grammar goes. Uses are [behaviour, first word, end, does what it says].
  const judgeCountdown = (text, { numbers, target }) => {
    const words = split(text.slice(0, MAX_CHARACTERS));
    while (["<eos>", "<pad>"].includes(words.at(-1))) words.pop();
    const [paths, made, uses, broken] = [new Map([[inOrder(numbers), []]]), new Set(), [], Symbol("broken")];
    let [at, attempts, last] = [0, 0, { reason: "", value: null }];
    const number = () => {
      if (!isNumber(words[at])) throw broken;
      return Number(words[(at += 1) - 1]);
    };
    const take = (...expected) => {
      if (!expected.includes(words[at])) throw broken;
      return words[(at += 1) - 1];
    };
    const equation = () => {
      const [left, sign, right] = [number(), take("+", "-", "*", "/"), number()];
      take("=");
      return [left, sign, right, number()];
    };
    const read = (draft) => {
      if (draft.begun !== null) {
        draft.start = at += 1;
        do draft.numbers.push(number());
        while (isNumber(words[at]));
        take("target");
        draft.target = number();
        take(":");
      }
      draft.start = draft.end = at;
      if (words[at] === "need") {
        at += 1;
        draft.plans = equation();
        take(",");
      }
      if (words[at] === "aim") {
        at += 1;
        draft.plans = number();
        take(",");
      }
      do {
        draft.steps.push(equation());
        draft.end = at;
      } while (words[at] === "," && (at += 1));
      if (words[at] === "check") {
        at += 1;
        draft.compared = number();
        draft.said = take("yes", "no");
      }
      draft.followed = ["back", "answer"].includes(words[at]);
    };
    const judge = ({ numbers: own, steps, begun, start, end, plans, compared, said, followed, target: named }) => {
      if (!steps.length && plans === null && begun === null) return;
      last = replay(own, steps, target, paths);
      attempts += 1;
      const [legal, hits, repeated] = [last.value !== null, last.reason === "correct", made.has(last.key)];
      if (legal || (steps.length && (followed || said))) made.add(last.key);
      if (begun !== null) uses.push(["backtracking", begun, start, legal && !repeated && named === target]);
      if (said) uses.push(["verification", end, end + 3, compared === target && (said === "yes") === hits]);
    };
    const attempt = (begun) => {
      const own = begun === null ? [...numbers] : [];
      const draft = { begun, numbers: own, target: null, start: at, end: at, plans: null, steps: [], compared: 0, said: "", followed: false };
      try {
        read(draft);
      } finally {
        judge(draft);
      }
    };
    let form = "ok";
    try {
      while (words[at] === ".") at += 1;
      attempt(null);
      while (words[at] === "back") attempt(at);
      take("answer");
      if (at < words.length) form = "trailing_words";
    } catch (error) {
      if (error !== broken) throw error;
      const word = words[at];
      form = !word ? "unfinished" : isNumber(word) || KNOWN.has(word) ? "unexpected_word" : "unknown_word";
    }
    const { reason, value } = form === "ok" ? last : { reason: form, value: null };
    return { correct: reason === "correct", reason, value, uses, attempts };
  };

  // Compare the roles that a Knights & Knaves completion hands in, the last list of each island, with the solution.
  const judgeKnights = (text, islands) => {
    const words = split(text.slice(0, MAX_CHARACTERS)).filter((word) => word !== "<eos>");
    const handed = new Map();
    let [island, checks, begin] = [-1, false, words.findIndex((word) => word !== ".")];
    for (let at = begin; at >= 0 && at < words.length; at += 1) {
      if (["check", "yes", "no"].includes(words[at])) checks = words[at] === "check";
      if (checks || (at !== begin && !["assume", "so"].includes(words[at - 1]))) continue;
      const roles = [];
      for (let to = at; /^[A-L]$/.test(words[to]) && ["knight", "knave"].includes(words[to + 1]); to += 2) roles.push([words[to], words[to + 1]]);
      if (!roles.length) continue;
      if (words[at - 1] === "assume") island = islands.findIndex((own) => roles[0][0] in own);
      handed.set(island, roles);
    }
    const [all, solution] = [[...handed.values()].flat(), Object.assign({}, ...islands)];
    const names = new Set(all.map(([name]) => name));
    const reasons = [
      ["unfinished", words.at(-1) !== "answer"],
      ["person_twice", names.size < all.length],
      ["person_unknown", all.some(([name]) => !(name in solution))],
      ["person_missing", names.size < Object.keys(solution).length],
      ["wrong_role", all.some(([name, role]) => solution[name] !== role)],
    ];
    const reason = reasons.find(([, holds]) => holds)?.[0] ?? "correct";
    return { correct: reason === "correct", reason, value: null, uses: [] };
  };

  // Judge what a reader typed, with brackets and the usual order of operations; nothing is ever run.
  const judgeExpression = (typed, { numbers, target }) => {
    const text = typed.replace(/[×∙·xX]/g, "*").replace(/[−–]/g, "-");
    const tokens = text.length <= 80 ? (text.match(/\d{1,4}|\S/g) ?? []) : [];
    const left = [...numbers];
    let at = 0;
    const wrong = (said) => Object.assign(new Error(said), { isOurs: true });
    const factor = () => {
      const token = tokens[at];
      at += 1;
      if (token === "(") {
        const value = sum();
        if (tokens[at] !== ")") throw wrong("A bracket is not closed.");
        at += 1;
        return value;
      }
      if (!/^\d+$/.test(token ?? "")) throw wrong(token ? `“${token}” has no place there.` : "Something is missing at the end.");
      if (!remove(left, Number(token))) throw wrong(`There is no ${token} left to use.`);
      return Number(token);
    };
    const chain = (signs, part) => () => {
      let value = part();
      while (signs.includes(tokens[at])) {
        const sign = tokens[at];
        at += 1;
        const other = part();
        const result = combine(value, sign, other);
        if (result === null) throw wrong(`${value} ${sign} ${other} leaves the range from 0 to ${MAX_VALUE}.`);
        value = result;
      }
      return value;
    };
    const product = chain(["*"], factor);
    const sum = chain(["+", "-"], product);
    try {
      if (!tokens.length) throw wrong(text.length > 80 ? "That is too long." : "Type a sum first, such as (9 - 7) + 6.");
      const value = sum();
      if (at < tokens.length) throw wrong(`“${tokens[at]}” has no place there.`);
      if (left.length) throw wrong(`Not used yet: ${listed(left)}.`);
      return { correct: value === target, said: value === target ? "Right." : `That makes ${value}, not ${target}.` };
    } catch (error) {
      if (!error.isOurs) throw error;
      return { correct: false, said: error.message };
    }
  };

  // --- What a reader sees -----------------------------------------------------------------------------------

  const make = (tag, attributes = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children);
    return node;
  };
  const button = (text, press) => {
    const node = make("button", { type: "button" }, text);
    node.addEventListener("click", press);
    return node;
  };
  const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
  const isStill = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
  const listed = (items) => (items.length > 1 ? `${items.slice(0, -1).join(", ")} and ${items.at(-1)}` : String(items[0]));
  const NO_MODEL = "The models could not be loaded.";
  const CAP = { countdown: 288, knights: 420 };
  const WORD_MS = 45;
  let numFields = 0;

  // Words, with checks and steps back marked as on the other pages, whether finished or not.
  const marked = (words) => {
    const nodes = [];
    for (let at = 0; at < words.length; ) {
      const [behaviour, last] = { check: ["verification", /^(yes|no)$/], back: ["backtracking", /^(:|knight|knave)$/] }[words[at]] ?? [];
      let end = at + 1;
      while (end < words.length && (behaviour ? !last.test(words[end - 1]) : !["check", "back"].includes(words[end]))) end += 1;
      const text = words.slice(at, end).join(" ");
      nodes.push(behaviour ? make("mark", { class: `eb-${behaviour}` }, text) : text, " ");
      at = end;
    }
    return nodes;
  };

  const verdict = ({ correct, reason, value }, target) => {
    if (correct) return "right";
    if (reason === "wrong_value") return `wrong: ${value} is not ${target}`;
    return reason === "wrong_role" ? "wrong" : `wrong: ${reason.replaceAll("_", " ")}`;
  };

  // A pane in which a model's words appear; `type` ends early, with null, where the reader has gone on.
  const pane = (title) => {
    const [text, caption] = [make("p", { class: "eb-text" }), make("figcaption")];
    const node = make("figure", { class: "eb-completion" }, make("p", { class: "eb-title" }, title), text, caption);
    const type = async (writer, isWanted) => {
      const words = [];
      for (const { word } of writer) {
        words.push(word);
        if (isStill() ? words.length % 20 === 0 : true) {
          text.replaceChildren(...marked(words));
          await pause(isStill() ? 0 : WORD_MS);
        }
        if (!isWanted()) return null;
      }
      text.replaceChildren(...marked(words));
      return words.join(" ");
    };
    const close = (judged, target, numWords) => {
      node.classList.add(judged.correct ? "eb-right" : "eb-wrong");
      caption.textContent = `${judged.correct ? "✓" : "✗"} ${verdict(judged, target)}, ${numWords} words`;
    };
    return { node, type, close };
  };

  // Let models write on one problem side by side; the newest race of a place ends the one before.
  const race = async (panes, status, names, { task, prompt, judge, target, forced }) => {
    const run = (panes.run = {});
    const isWanted = () => panes.run === run;
    status.textContent = "The models are writing …";
    try {
      const models = await Promise.all(names.map((name) => load(`${task}/${name}`)));
      if (!isWanted()) return;
      const places = names.map((name) => pane(name));
      panes.replaceChildren(...places.map(({ node }) => node));
      const texts = await Promise.all(
        models.map((model, i) => places[i].type(write(model, prompt, { cap: CAP[task], random: Math.random, forced: forced(names[i]) }), isWanted)),
      );
      if (!isWanted()) return;
      const judged = texts.map((text) => judge(text));
      places.forEach((place, i) => place.close(judged[i], target, split(texts[i]).length));
      const said = names.map((name, i) => `The ${name} is ${verdict(judged[i], target)}.`).join(" ");
      const heard = names.map((name, i) => `The ${name} wrote: ${texts[i]}.`).join(" ");
      status.replaceChildren(said, make("span", { class: "eb-heard" }, ` ${heard}`));
    } catch (error) {
      status.textContent = NO_MODEL;
      console.error(error);
    }
  };

  // Empty the place of a race, and end the one that goes on there.
  const clear = (panes, status) => {
    panes.run = null;
    panes.replaceChildren();
    status.textContent = "";
  };

  const checkbox = (text) => {
    const box = make("input", { type: "checkbox", id: `eb-play-${(numFields += 1)}` });
    box.checked = true;
    return [box, make("p", { class: "eb-tick" }, box, " ", make("label", { for: box.id }, text))];
  };
  const panesFor = () => [make("div", { class: "eb-panes" }), make("p", { class: "eb-said", role: "status" })];
  const atFirstVerdict = (words, numbers) => words.filter((word) => word === "=").length === numbers.length - 1 && words.at(-2) === "=";
  const readCountdown = (name) => {
    const [numbers, target] = name.split(":");
    return { numbers: numbers.split("-").map(Number), target: Number(target) };
  };
  const promptOf = ({ numbers, target }) => ["numbers", ...numbers.map(String), "target", String(target), ":"];

  const SECONDS = 60;

  const playCountdown = (root) => {
    const problems = window.ebProblems.countdown.map(readCountdown);
    let [index, timer] = [-1, 0];
    const [asked, clock, said] = [make("p"), make("p", { class: "eb-clock", role: "timer" }), make("p", { class: "eb-said", role: "status" })];
    const field = make("input", { type: "text", id: `eb-play-${(numFields += 1)}`, autocomplete: "off", spellcheck: "false", maxlength: "80" });
    const form = make("form", { class: "eb-row" }, make("label", { for: field.id }, "Your sum"), field, make("button", { type: "submit" }, "Submit"));
    const [box, tick] = checkbox("Make the searcher check its first attempt; left to itself it does so one time in ten");
    const [panes, status] = panesFor();
    const next = () => {
      index = (index + 1) % problems.length;
      const { numbers, target } = problems[index];
      asked.replaceChildren("Make ", make("strong", {}, String(target)), " from ", make("strong", {}, listed(numbers)));
      asked.append(`: each number once, with + - * and brackets. Nothing on the way may leave the range from 0 to ${MAX_VALUE}.`);
      clear(panes, status);
      field.value = "";
      said.textContent = "";
      let left = SECONDS;
      const show = () => (clock.textContent = left > 0 ? `${left} s left` : "Time is up. Take as long as you like.");
      clearInterval(timer);
      timer = setInterval(() => ((left -= 1) > 0 ? show() : clearInterval(timer, show())), 1000);
      show();
      field.focus();
    };
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const judged = judgeExpression(field.value, problems[index]);
      if (judged.correct) clearInterval(timer);
      said.textContent = `${judged.correct ? "✓" : "✗"} ${judged.said}`;
    });
    const watch = () => {
      const problem = problems[index];
      const forced = (name) => (words) => (box.checked && name === "searcher" && atFirstVerdict(words, problem.numbers) ? "check" : null);
      const judge = (text) => judgeCountdown(text, problem);
      return race(panes, status, ["guesser", "searcher"], { task: "countdown", prompt: promptOf(problem), judge, target: problem.target, forced });
    };
    const buttons = make("p", { class: "eb-row" }, button("Watch the models (1 MB)", watch), button("Another problem", next));
    root.replaceChildren(asked, clock, form, said, tick, buttons, panes, status);
    next();
  };

  // "1 A says B same C" in words that need no grammar.
  const told = (words) => {
    const relations = { same: "are of a kind", differs: "are of two kinds" };
    const parts = words.join(" ").matchAll(/\d+ (\w) says (\w) (is|same|differs) (\w+)/g);
    return [...parts].map(([, speaker, subject, relation, other]) =>
      relation === "is" ? `${speaker} says: ${subject} is a ${other}.` : `${speaker} says: ${subject} and ${other} ${relations[relation]}.`,
    );
  };

  const playKnights = (root) => {
    const problems = window.ebProblems.knights;
    let index = -1;
    const asked = make("ul", { class: "eb-told" });
    const [box, tick] = checkbox("Make deriver and searcher begin with an assumption; left to themselves they do so one time in ten");
    const [panes, status] = panesFor();
    const watch = () => {
      const [prompt, islands] = problems[index];
      const forced = (name) => (words) => (box.checked && name !== "guesser" && !words.length ? "assume" : null);
      const judge = (text) => judgeKnights(text, islands);
      return race(panes, status, ["guesser", "deriver", "searcher"], { task: "knights", prompt: split(prompt), judge, forced });
    };
    const next = () => {
      index = (index + 1) % problems.length;
      asked.replaceChildren(...told(split(problems[index][0])).map((line) => make("li", {}, line)));
      clear(panes, status);
    };
    const first = button("Watch the models (5 MB)", watch);
    root.replaceChildren(make("p", {}, "Who is a knight, who is a knave?"), asked, tick, make("p", { class: "eb-row" }, first, button("Another puzzle", next)), panes, status);
    next();
    first.focus();
  };

  const NUM_DRAWS = 40;
  const GROUP = 8;
  const SILENCED = -13;
  const asChance = (chance) => {
    if (!chance) return "never";
    return chance >= 0.01 ? `${Math.round(100 * chance)} times in a hundred` : `once in ${Number((1 / chance).toPrecision(2)).toLocaleString("en-GB")}`;
  };

  const playDial = (root) => {
    const problems = window.ebProblems.countdown.map(readCountdown);
    let [index, run] = [0, 0];
    const slider = make("input", { type: "range", min: String(SILENCED), max: "0", step: "1", id: `eb-play-${(numFields += 1)}` });
    slider.value = "0";
    const shown = make("output", { for: slider.id });
    const [asked, chance, draws, text] = [make("p"), make("p", { class: "eb-chance" }), make("p", { class: "eb-draws", "aria-hidden": "true" }), make("div")];
    const status = make("p", { class: "eb-said", role: "status" });
    const turn = async () => {
      const mine = (run += 1);
      const bias = Number(slider.value) > SILENCED ? Number(slider.value) : -Infinity;
      shown.textContent = bias === -Infinity ? "silenced" : String(bias).replace("-", "−");
      slider.setAttribute("aria-valuetext", bias === -Infinity ? "silenced" : `bias ${bias}`);
      const problem = problems[index];
      asked.textContent = `The searcher, ${NUM_DRAWS} times on the numbers ${listed(problem.numbers)} and the target ${problem.target}:`;
      try {
        const model = await load("countdown/searcher");
        const [texts, chances] = [[], []];
        draws.replaceChildren();
        for (let count = 0; count < NUM_DRAWS && mine === run; count += 1) {
          const words = [];
          // The same luck at each setting of the dial, so that nothing but the dial makes the difference.
          const options = { cap: CAP.countdown, random: seeded(NUM_DRAWS * index + count), opens: ["check", "back"], bias };
          for (const { word, search } of write(model, promptOf(problem), options)) {
            if (atFirstVerdict(words, problem.numbers)) chances.push(search);
            words.push(word);
          }
          const searches = words.includes("check") || words.includes("back");
          texts[searches ? "unshift" : "push"](words);
          draws.append(make("span", { class: searches ? "eb-on" : "" }, searches ? "●" : "○"), " ");
          const mean = chances.reduce((sum, value) => sum + value, 0) / Math.max(chances.length, 1);
          chance.textContent = `Behind its first attempt it begins to search ${asChance(mean)}; a group of ${GROUP} holds a search ${asChance(1 - (1 - mean) ** GROUP)}.`;
          await pause(0);
        }
        if (mine !== run) return;
        const numSearching = draws.querySelectorAll(".eb-on").length;
        const place = pane(numSearching ? "One that searches" : "None searches; one of them");
        await place.type(texts[0].map((word) => ({ word })).values(), () => true);
        if (mine !== run) return;
        place.close(judgeCountdown(texts[0].join(" "), problem), problem.target, texts[0].length);
        text.replaceChildren(place.node);
        status.textContent = `${numSearching} of ${NUM_DRAWS} completions search. `;
        status.append(make("span", { class: "eb-heard" }, `${chance.textContent} Written: ${texts[0].join(" ")}.`));
      } catch (error) {
        status.textContent = NO_MODEL;
        console.error(error);
      }
    };
    slider.addEventListener("input", turn);
    const next = button("Another problem", () => {
      index = (index + 1) % problems.length;
      turn();
    });
    const row = make("p", { class: "eb-row" }, make("label", { for: slider.id }, "Bias on “check” and “back”"), slider, shown, next);
    root.replaceChildren(row, asked, draws, chance, status, text);
    slider.focus();
    return turn();
  };

  const KINDS = { countdown: ["Play a fresh problem", playCountdown], knights: ["Other puzzles", playKnights], dial: ["Turn the dial (½ MB)", playDial] };

  // Put a button below the example that stands in each place; the rest begins when it is pressed.
  const mount = () => {
    for (const root of document.querySelectorAll(".eb-play:not([data-mounted])")) {
      const [label, begin] = KINDS[root.dataset.play] ?? [];
      if (!begin || !window.ebProblems) continue;
      root.dataset.mounted = "";
      root.append(make("p", { class: "eb-row" }, button(label, () => begin(root))));
    }
  };

  return { Model, write, load, seeded, judgeCountdown, judgeKnights, judgeExpression, readCountdown, promptOf, mount };
})();
window.ebPlay.mount();
