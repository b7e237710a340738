// The explore page: the matrix of pairings, its filters, and what it shows in the address.
// Data come as small scripts that call nbutilsExplore.take(name, value), because a page that is
// opened from a folder may load scripts but not read files. Texts reach the page as text only.
(function () {
  "use strict";

  const data = new URL("generated/explore/", document.currentScript.src);
  const wanted = new Map();  // name of a script -> its promise, and what fulfils it

  function take(name, value) { wanted.get(name).fulfil(value); }

  function load(name) {
    if (!wanted.has(name)) {
      const entry = {};
      entry.promise = new Promise(function (fulfil, fail) {
        entry.fulfil = fulfil;
        const script = document.createElement("script");
        script.src = new URL(name + ".js", data).href;
        script.onerror = function () {
          wanted.delete(name);
          fail(new Error(name + " could not be loaded: build the book again with `make html`"));
        };
        script.onload = function () { script.remove(); };
        wanted.set(name, entry);
        document.head.append(script);
      });
    }
    return wanted.get(name).promise;
  }

  // ------------------------------------------------------------ elements

  function filled(element, attributes, children) {
    Object.entries(attributes || {}).forEach(function ([name, value]) {
      if (value !== null && value !== undefined) element.setAttribute(name, value);
    });
    element.append(...children);
    return element;
  }

  function make(tag, attributes, ...children) {
    return filled(document.createElement(tag), attributes, children);
  }

  function draw(tag, attributes, ...children) {
    return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
  }

  // A true minus, and always a sign, as in the book's charts; a zero has none.
  function signed(value, digits) {
    return (value < 0 ? "\u2212" : value > 0 ? "+" : "") + Math.abs(value).toFixed(digits);
  }

  // ------------------------------------------------------------ state and address

  const FIELDS = ["results", "setting", "seed", "source", "student"];
  const state = {};
  let index = null;
  let parts = null;

  function entryOf(label) { return index.results.find(function (r) { return r.label === label; }); }

  function allowed(entry) {
    return {
      results: index.results.map(function (r) { return r.label; }),
      setting: entry.settings, seed: entry.seeds, source: entry.sources, student: entry.students,
    };
  }

  // What a name asks for where it exists, else the first there is; tells what did not exist.
  function settle(asked) {
    const missing = [];
    const labels = index.results.map(function (r) { return r.label; });
    if (asked.results && !labels.includes(asked.results)) missing.push("results");
    state.results = labels.includes(asked.results) ? asked.results : labels[0];
    const choices = allowed(entryOf(state.results));
    FIELDS.slice(1).forEach(function (name) {
      const known = choices[name].includes(asked[name]);
      if (asked[name] && !known) missing.push(name);
      const none = name === "source" || name === "student" ? null : choices[name][0];
      state[name] = known ? asked[name] : none;
    });
    return missing.map(function (name) {
      return name + " \u201c" + asked[name] + "\u201d is not in " + state.results + ", which has "
        + (name === "results" ? labels : choices[name]).slice(0, 12).join(", ") + ".";
    });
  }

  function fromAddress() {
    const found = new URLSearchParams(location.hash.slice(1));
    return Object.fromEntries(FIELDS.map(function (name) { return [name, found.get(name)]; }));
  }

  function toAddress() {
    const kept = FIELDS.filter(function (name) { return state[name] !== null; });
    const query = new URLSearchParams(kept.map(function (name) { return [name, state[name]]; }));
    history.replaceState(null, "", "#" + query.toString());
  }

  // ------------------------------------------------------------ matrix

  function described(source, student, relation, gain) {
    if (!gain) return student + " reads " + source + ": not measured";
    return student + " reads " + source + ", " + relation + ": " + signed(gain[0], 1)
      + " points, interval " + signed(gain[1], 1) + " to " + signed(gain[2], 1);
  }

  function cellOf(row, column, entry, cell, choice, reach) {
    const gain = cell && cell[5][choice];
    const source = entry.sources[row];
    const student = entry.students[column];
    const box = make("td", {
      role: "gridcell", tabindex: -1, "aria-selected": "false",
      "aria-label": described(source, student, cell && cell[4], gain),
    });
    if (!gain) {
      box.className = "explore-none";
      box.append("\u00b7");
      return box;
    }
    const pale = gain[1] <= 0 && gain[2] >= 0;
    box.className = "explore-cell " + (gain[0] < 0 ? "loss" : "win") + (pale ? " pale" : "");
    // Never the whole colour: the number must stay readable on it.
    const share = 80 * Math.min(1, Math.abs(gain[0]) / reach) * (pale ? 0.35 : 1);
    box.style.setProperty("--share", share.toFixed(0));
    box.style.setProperty("--relation", "var(--relation-" + cell[4] + ")");
    box.append(make("b", {}, signed(gain[0], 1)),
      make("small", {}, signed(gain[1], 1) + " \u2026 " + signed(gain[2], 1)));
    box.cell = cell;
    return box;
  }

  function matrix() {
    const entry = entryOf(state.results);
    const setting = entry.settings.indexOf(state.setting);
    const choice = entry.seeds.indexOf(state.seed);
    const cells = entry.cells.filter(function (c) { return c[3] === setting && c[5][choice]; });
    const at = new Map(cells.map(function (c) { return [c[1] + "/" + c[2], c]; }));
    // Of the pairings: a control can be so much worse that all else would look alike.
    const reach = Math.max(0.1, ...cells.map(function (c) {
      return c[4] === "control" ? 0 : Math.abs(c[5][choice][0]);
    }));
    const [rows, columns] = [1, 2].map(function (place) {
      const found = [...new Set(cells.map(function (c) { return c[place]; }))];
      return found.sort(function (a, b) { return a - b; });
    });
    const head = make("tr", {}, make("th", { scope: "col" }, "source \\ student"),
      ...columns.map(function (c) { return make("th", { scope: "col" }, entry.students[c]); }));
    const body = make("tbody");
    rows.forEach(function (row) {
      body.append(make("tr", {}, make("th", { scope: "row" }, entry.sources[row]),
        ...columns.map(function (column) {
          return cellOf(row, column, entry, at.get(row + "/" + column), choice, reach);
        })));
    });
    const table = make("table", {
      role: "grid", class: "explore-matrix", "aria-label": "Gain of every pairing, in points. "
        + "Arrow keys move, Enter shows a cell.",
    }, make("thead", {}, head), body);
    table.style.setProperty("--columns", columns.length);
    parts.scroll.replaceChildren(table);
    const chosen = mark();
    const first = table.querySelector("td");
    if (!chosen && first) first.tabIndex = 0;
    parts.count.textContent = cells.length + (cells.length === 1 ? " cell" : " cells");
  }

  // Marks the chosen cell and returns it, null where the matrix does not have it.
  function mark() {
    const entry = entryOf(state.results);
    let chosen = null;
    parts.scroll.querySelectorAll("td[tabindex='0'], td[aria-selected=true]").forEach(function (td) {
      td.tabIndex = -1;
      td.setAttribute("aria-selected", "false");
    });
    const [row, column] = [entry.sources.indexOf(state.source), entry.students.indexOf(state.student)];
    for (const td of parts.scroll.querySelectorAll("td.explore-cell")) {
      if (td.cell[1] === row && td.cell[2] === column) chosen = td;
    }
    if (chosen) {
      chosen.tabIndex = 0;
      chosen.setAttribute("aria-selected", "true");
    }
    return chosen;
  }

  const MOVES = {
    ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1],
    Home: [0, -Infinity], End: [0, Infinity],
  };

  function moved(event, from) {
    const [down, right] = MOVES[event.key];
    const rows = from.closest("tbody").rows;
    const row = Math.min(Math.max(from.parentElement.rowIndex - 1 + down, 0), rows.length - 1);
    const last = rows[row].cells.length - 1;
    const column = Math.min(Math.max(from.cellIndex + right, 1), last);
    const to = rows[row].cells[column];
    from.tabIndex = -1;
    to.tabIndex = 0;
    to.focus();
    event.preventDefault();
  }

  // ------------------------------------------------------------ what people do

  async function show() {
    const chosen = parts.scroll.querySelector("td[aria-selected='true']");
    if (!chosen) {
      const said = state.source
        ? "This pairing was not measured with this setting and seed. Choose another cell."
        : "Choose a cell to see what is behind its number.";
      parts.detail.replaceChildren(make("p", { class: "nbutils-empty" }, said));
      parts.detail.dataset.shows = "";
      return;
    }
    const name = chosen.cell[0];
    try {
      const cell = await load("cells/" + name);
      if (!chosen.isConnected || chosen.getAttribute("aria-selected") !== "true") return;
      nbutilsExplore.detail(parts.detail, cell, state);
    } catch (error) {
      if (!chosen.isConnected || chosen.getAttribute("aria-selected") !== "true") return;
      parts.detail.replaceChildren(make("p", { class: "nbutils-empty" }, error.message));
    }
    parts.detail.dataset.shows = name;
  }

  function choose(td) {
    if (!td.cell) return;
    const entry = entryOf(state.results);
    state.source = entry.sources[td.cell[1]];
    state.student = entry.students[td.cell[2]];
    mark();
    toAddress();
    show();
  }

  function options(select, values, value) {
    select.replaceChildren(...values.map(function (v) {
      return make("option", { value: v }, v === "all" ? "all, together" : v);
    }));
    select.value = value;
  }

  function everything(asked) {
    const problems = settle(asked);
    const choices = allowed(entryOf(state.results));
    ["results", "setting", "seed"].forEach(function (name) {
      options(parts[name], choices[name], state[name]);
    });
    parts.problems.textContent = problems.join(" ");
    matrix();
    show();
  }

  function chooser(name, label) {
    parts[name] = make("select", {});
    parts[name].addEventListener("change", function () {
      const asked = Object.assign({}, state, { [name]: parts[name].value });
      // Another tier has settings, seeds and models of its own: what it lacks is no mistake.
      everything(asked);
      parts.problems.textContent = "";
      toAddress();
    });
    return make("label", {}, label + " ", parts[name]);
  }

  async function start() {
    const root = document.getElementById("nbutils-explore");
    parts = {
      scroll: make("div", { class: "explore-scroll" }),
      detail: make("section", { class: "explore-detail", "aria-label": "The chosen pairing" }),
      count: make("span", { class: "explore-count", role: "status" }),
      problems: make("p", { class: "explore-problems", role: "alert" }),
    };
    const controls = make("div", { class: "explore-controls" },
      chooser("results", "Results"), chooser("setting", "Method and temperature"),
      chooser("seed", "Seed"), parts.count);
    root.replaceChildren(controls, parts.problems, parts.scroll, parts.detail);
    try {
      index = await load("index");
    } catch (error) {
      parts.problems.textContent = error.message;
      return;
    }
    if (!index.results.length) {
      parts.problems.textContent = "There are no results yet: nbutils run tiny makes some.";
      return;
    }
    Object.entries(index.relations).forEach(function ([name, colour]) {
      root.style.setProperty("--relation-" + name, colour);
    });
    parts.scroll.addEventListener("click", function (event) {
      const td = event.target.closest("td");
      if (td) choose(td);
    });
    parts.scroll.addEventListener("keydown", function (event) {
      const td = event.target.closest("td");
      if (!td || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key in MOVES) moved(event, td);
      else if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        choose(td);
      }
    });
    window.addEventListener("hashchange", function () { everything(fromAddress()); });
    everything(fromAddress());
    root.dataset.ready = "true";
  }

  window.nbutilsExplore = { take, load, make, draw, signed, detail: null };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
