// What the explore page tells of one cell: tasks, extraction, loss, trajectory, scores, documents,
// the command that makes it and the runs behind it. What a tier did not publish is said to be absent.
(function () {
  "use strict";

  const { load, make, draw, signed } = window.nbutilsExplore;
  const HIGH = 190;
  const EDGE = { left: 46, right: 62, top: 12, bottom: 34 };

  function percent(value) { return (100 * value).toFixed(1) + " %"; }

  function between(low, high) { return " [" + low + ", " + high + "]"; }

  function points(row, at) {
    return signed(row[at], 2) + between(signed(row[at + 1], 2), signed(row[at + 2], 2));
  }

  function absent(text) { return make("p", { class: "nbutils-empty" }, text); }

  function table(heads, rows, label) {
    const body = rows.map(function (row) {
      return make("tr", {}, ...row.map(function (value, at) {
        return at ? make("td", {}, value) : make("th", { scope: "row" }, value);
      }));
    });
    const head = make("tr", {}, ...heads.map(function (text) {
      return make("th", { scope: "col" }, text);
    }));
    // A region that may scroll must be reachable by keyboard.
    return make("div", { class: "nbutils-scroll", tabindex: 0, role: "group", "aria-label": label },
      make("table", { class: "nbutils-table" }, make("thead", {}, head), make("tbody", {}, ...body)));
  }

  function section(title, ...content) {
    return make("section", { class: "explore-part" }, make("h3", {}, title), ...content);
  }

  // ------------------------------------------------------------ small charts

  function scale(values, from, to) {
    const low = Math.min(...values);
    const high = Math.max(...values);
    const span = high - low || 1;
    return { low, high, at: function (v) { return from + (v - low) / span * (to - from); } };
  }

  let wide = 640;  // of a chart, in pixels: less on a phone

  // Lines over steps: [{label, points: [[x, y, low, high]]}], limits where there are any.
  function lines(series, format, axis, description) {
    const all = series.flatMap(function (s) { return s.points; });
    const heights = all.flatMap(function (p) { return p.slice(1).filter(Number.isFinite); });
    const x = scale(all.map(function (p) { return p[0]; }), EDGE.left, wide - EDGE.right);
    const y = scale(heights, HIGH - EDGE.bottom, EDGE.top);
    const chart = draw("svg", {
      viewBox: "0 0 " + wide + " " + HIGH, role: "img", "aria-label": description,
      class: "explore-lines",
    });
    [y.low, y.high].forEach(function (value) {
      const [x1, x2, height] = [EDGE.left, wide - EDGE.right, y.at(value)];
      chart.append(draw("line", { class: "rule", x1, x2, y1: height, y2: height }),
        draw("text", { x: x1 - 6, y: height + 4, "text-anchor": "end" }, format(value)));
    });
    [x.low, x.high].forEach(function (value) {
      const place = { x: x.at(value), y: HIGH - 16, "text-anchor": "middle" };
      chart.append(draw("text", place, String(value)));
    });
    const middle = { x: (EDGE.left + wide - EDGE.right) / 2, y: HIGH - 4, "text-anchor": "middle" };
    chart.append(draw("text", middle, axis));
    series.forEach(function (s) {
      s.points.forEach(function (p) {
        if (p.length === 2) return;
        const at = { x1: x.at(p[0]), x2: x.at(p[0]), y1: y.at(p[2]), y2: y.at(p[3]) };
        chart.append(draw("line", { class: "span", ...at }));
      });
      const path = s.points.map(function (p) {
        return x.at(p[0]).toFixed(1) + "," + y.at(p[1]).toFixed(1);
      });
      chart.append(draw("polyline", { points: path.join(" ") }));
      const last = s.points[s.points.length - 1];
      chart.append(draw("text", { x: x.at(last[0]) + 6, y: y.at(last[1]) + 4 }, s.label));
    });
    return chart;
  }

  function interval(row, reach) {
    function at(v) { return (100 + 96 * v / reach).toFixed(1); }
    return draw("svg", { viewBox: "0 0 200 16", class: "explore-interval", "aria-hidden": "true" },
      draw("line", { class: "rule", x1: 100, x2: 100, y1: 0, y2: 16 }),
      draw("line", { class: "span", x1: at(row[6]), x2: at(row[7]), y1: 8, y2: 8 }),
      draw("circle", { cx: at(row[5]), cy: 8, r: 4 }));
  }

  // ------------------------------------------------------------ the parts

  function tasks(found) {
    const rows = found.tasks.slice().sort(function (a, b) {
      return (b[0] === "suite") - (a[0] === "suite");
    });
    const limits = rows.flatMap(function (row) { return row.slice(5, 8); }).filter(Number.isFinite);
    const reach = Math.max(0.1, ...limits.map(Math.abs));
    return section("The gain, task by task", table(
      ["task", "items", "before", "after", "gain (points)", "", "detectable"],
      rows.map(function (row) {
        const name = row[0] === "suite" ? "whole suite" : row[0].replaceAll("_", " ");
        const shown = name + (row[9] && ", " + row[9]);  // the metric, where the task defines two
        return [shown, row[1], percent(row[3]), percent(row[4]), points(row, 5),
          interval(row, reach), row[8] === null ? "" : row[8].toFixed(2)];
      }), "Gain on every task"));
  }

  function extraction(found) {
    if (!found.passages.length) {
      return section("What is still extracted", absent("No passages were asked of this student."));
    }
    return section("What is still extracted", table(
      ["passages", "asked", "exact before", "exact after", "share after", "fell by"],
      found.passages.map(function (row) {
        const fall = row[7] === null ? "nothing to lose"
          : percent(row[7]) + between(percent(row[8]), percent(row[9]));
        return [row[0].replace("_", "-"), row[1], row[2], row[3],
          percent(row[4]) + between(percent(row[5]), percent(row[6])), fall];
      }), "Extraction"));
  }

  function loss(seeds) {
    const series = seeds.filter(function (s) { return s.curve.length; }).map(function (s) {
      return { label: "loss", points: s.curve };
    });
    if (series.length > 1) series.forEach(function (s) { s.label = ""; });  // they would overlap
    if (!series.length) return section("Loss", absent("The tables hold no loss curve of this cell."));
    const told = series.map(function (s) {
      const [first, last] = [s.points[0], s.points[s.points.length - 1]];
      return "from " + first[1].toFixed(2) + " to " + last[1].toFixed(2);
    });
    const axis = series.length > 1 ? "step, one line a seed" : "step";
    const said = "Training loss in nats per token over steps, one line a seed: " + told.join("; ");
    const shown = lines(series, function (v) { return v.toFixed(2); }, axis, said + ".");
    return section("Loss, in nats per token", shown);
  }

  function along(cell) {
    const title = "Along fine-tuning";
    const none = "This tier traced no trajectory of this cell.";
    if (!cell.along.length) return section(title, absent(none));
    const gains = cell.along.map(function (row) { return row.slice(0, 4); });
    const kept = cell.along.filter(function (row) { return row[4] !== null; });
    const shares = kept.map(function (row) { return [row[0], ...row.slice(4)]; });
    function told(rows, format) {
      return rows.map(function (row) { return "step " + row[0] + ": " + format(row[1]); }).join(", ");
    }
    function whole(value) { return signed(value, 1); }
    function share(value) { return (100 * value).toFixed(0) + " %"; }
    const charts = [lines([{ label: "gain", points: gains }], whole, "step",
      "Change of utility in points. " + told(gains, whole))];
    if (shares.length) {
      charts.push(lines([{ label: "extracted", points: shares }], share, "step",
        "Held-out extraction. " + told(shares, share)));
    }
    return section(title, ...charts);
  }

  function scores(seeds) {
    const title = "Proxies and diagnostics";
    const named = new Map();
    seeds.forEach(function (s, at) {
      s.scores.forEach(function ([kind, name, value]) {
        const key = kind + " " + name;
        const none = seeds.map(function () { return "\u2013"; });
        if (!named.has(key)) named.set(key, { kind, name, values: none });
        named.get(key).values[at] = value === null ? "\u2013" : String(value);
      });
    });
    if (!named.size) return section(title, absent("No proxy was measured of this cell."));
    return section(title, table(
      ["score", "kind", ...seeds.map(function (s) { return "seed " + s.seed; })],
      [...named.values()].map(function (row) {
        return [row.name.replaceAll("_", " "), row.kind, ...row.values];
      }), "Scores of this corpus for this student"));
  }

  async function side(title, run) {
    const box = make("div", { class: "explore-side" }, make("h4", {}, title));
    const corpus = await load("corpora/" + run);
    if (corpus.facts.length) {
      const known = corpus.facts.filter(function (fact) { return fact[1] !== null; });
      const said = known.map(function (fact) { return fact.join(" "); }).join(" \u00b7 ");
      box.append(make("p", { class: "explore-facts" }, said));
    }
    if (corpus.texts === null) {
      box.append(absent("This tier was published without sampled documents."));
    } else if (!corpus.texts.length) {
      box.append(absent("No document of this corpus was kept."));
    } else {
      // Sampled text is untrusted: it is set as text, never as markup.
      corpus.texts.forEach(function ([text, more]) {
        const words = make("pre", { class: "explore-text" }, text || "(an empty document)");
        if (more > 0) words.append(make("i", {}, " \u2026 and " + more + " characters more"));
        box.append(words);
      });
    }
    return box;
  }

  function documents(cell, seeds) {
    const first = seeds[0];
    const sides = make("div", { class: "explore-sides" });
    const which = seeds.length > 1 ? " (seed " + first.seed + ")" : "";
    const asked = [];
    if (first.corpus) asked.push([cell.source + " wrote" + which, first.corpus]);
    else sides.append(absent("This control reads no corpus of its own."));
    if (first.own && first.own !== first.corpus) {
      asked.push([cell.student + " itself wrote" + which, first.own]);
    }
    Promise.all(asked.map(function ([title, run]) { return side(title, run); }))
      .then(function (boxes) { sides.append(...boxes); })
      .catch(function (error) { sides.append(absent(error.message)); });
    const caution = "The first documents as they came: a model\u2019s text, which nobody said and "
      + "which states no fact.";
    const title = "What the student read, beside what it writes itself";
    return section(title, make("p", {}, caution), sides);
  }

  function command(seeds) {
    const text = [...new Set(seeds.flatMap(function (s) { return s.commands; }))].join("\n");
    const copy = make("button", { type: "button", class: "nbutils-copy", "data-copy": text }, "Copy");
    return section("Make this cell", make("div", { class: "explore-command" },
      make("pre", { tabindex: 0, role: "group", "aria-label": "Command" }, text), copy));
  }

  // The footer is markup that the build made and escaped.
  function footer(cell) {
    const box = make("div", {});
    box.innerHTML = cell.footer;
    return box;
  }

  window.nbutilsExplore.detail = function (box, cell, state) {
    const found = cell.measured[state.seed];
    const names = Object.keys(cell.seeds).filter(function (seed) {
      return state.seed === "all" || state.seed === seed;
    });
    const seeds = names.map(function (seed) { return Object.assign({ seed }, cell.seeds[seed]); });
    const together = names.length === 1 ? "1 seed" : names.length + " seeds";
    const which = state.seed === "all" ? together : "seed " + state.seed;
    wide = Math.min(640, box.clientWidth || 640);
    const badge = make("span", { class: "explore-badge" }, cell.relation);
    badge.style.setProperty("--relation", "var(--relation-" + cell.relation + ")");
    box.style.setProperty("--relation", "var(--relation-" + cell.relation + ")");
    box.replaceChildren(
      make("h2", {}, cell.student + " reads " + cell.source + " ", badge),
      make("p", { class: "explore-facts" }, [state.results, state.setting, which].join(" \u00b7 ")),
      tasks(found), extraction(found), loss(seeds), along(cell), scores(seeds),
      documents(cell, seeds), command(seeds), footer(cell));
  };
})();
