// Makes the book's charts live: loads the local bundle once, draws each chart in the width of its
// column, and gives it a keyboard, a table and downloads. Colours of text and axes are variables of
// the page, so a change of theme needs no drawing.
(function () {
  "use strict";

  const here = document.currentScript.src;
  const MAX_WIDTH = 760;
  const NARROW = 520;
  const ROWS = 200;  // of the table beside a chart; the download has all
  const NAMED = "path[aria-label]";  // a mark that a screen reader can read

  function element(name, properties, children) {
    const made = Object.assign(document.createElement(name), properties);
    made.append.apply(made, children || []);
    return made;
  }

  function merged(base, extra) {
    const copy = Object.assign({}, base);
    Object.keys(extra).forEach(function (key) {
      const both = copy[key] && typeof copy[key] === "object" && !Array.isArray(copy[key]);
      copy[key] = both ? merged(copy[key], extra[key]) : extra[key];
    });
    return copy;
  }

  function isDark() { return document.documentElement.dataset.theme === "dark"; }

  // ---------------------------------------------------------------- tooltips: text, never HTML

  const tip = element("div", { id: "nbutils-tip", hidden: true });

  function showTip(handler, event, item, value) {
    tip.hidden = value === null || value === undefined || value === "";
    if (tip.hidden) return;
    const pairs = typeof value === "object" ? Object.entries(value) : [["", value]];
    tip.replaceChildren.apply(tip, pairs.map(function (pair) {
      const key = element("span", { textContent: pair[0] });
      return element("div", {}, [key, element("b", { textContent: String(pair[1]) })]);
    }));
    const x = Math.min(event.clientX + 14, window.innerWidth - tip.offsetWidth - 8);
    const below = event.clientY + 14;
    const fits = below + tip.offsetHeight < window.innerHeight;
    tip.style.left = Math.max(x, 8) + "px";
    tip.style.top = Math.max(fits ? below : event.clientY - tip.offsetHeight - 14, 8) + "px";
  }

  // ---------------------------------------------------------------- one chart

  function Chart(box) {
    this.box = box;
    this.spec = JSON.parse(box.querySelector("script").textContent);
    this.bound = (this.spec.signals || []).filter(function (s) { return s.bind; });
    this.controls = element("div", { className: "nbutils-controls" });
    this.canvas = element("div", { className: "nbutils-canvas", tabIndex: 0 });
    this.canvas.setAttribute("role", "group");
    this.canvas.setAttribute("aria-label", "Chart. Arrow keys move through it, Enter chooses.");
    this.canvas.addEventListener("keydown", this.key.bind(this));
    this.canvas.addEventListener("focusout", function () { tip.hidden = true; });
    this.canvas.hidden = this.controls.hidden = true;
    box.append(this.controls, this.canvas, this.tools());
    this.view = null;
    this.width = 0;
  }

  Chart.prototype.create = async function (narrow) {
    const spec = Object.assign({}, this.spec);
    if (narrow) spec.config = merged(spec.config || {}, spec.usermeta.narrow);
    const kept = this.view && this.bound.map(function (s) { return this.view.signal(s.name); }, this);
    if (this.view) this.view.finalize();
    this.controls.replaceChildren();
    this.canvas.replaceChildren();
    this.view = new nbutilsVega.View(nbutilsVega.parse(spec), {
      renderer: "svg", container: this.canvas, bind: this.controls, hover: true,
    });
    this.view.tooltip(showTip);
    if (kept) this.bound.forEach(function (s, i) { this.view.signal(s.name, kept[i]); }, this);
    this.narrow = narrow;
  };

  Chart.prototype.widen = function (by) {
    const facet = !("width" in this.spec);
    const now = facet ? this.view.signal("child_width") : this.view.width();
    const width = Math.max(now + by, 120);
    return (facet ? this.view.signal("child_width", width) : this.view.width(width)).resize().runAsync();
  };

  Chart.prototype.shade = function (dark) {
    const known = (this.spec.signals || []).some(function (s) { return s.name === "dark"; });
    if (known) this.view.signal("dark", dark);
  };

  Chart.prototype.draw = async function () {
    this.width = this.box.clientWidth;
    const available = Math.min(this.width, MAX_WIDTH);
    if (!available) return;
    const narrow = available < NARROW;
    if (!this.view || narrow !== this.narrow) await this.create(narrow);
    this.shade(isDark());
    this.canvas.hidden = this.controls.hidden = false;
    await this.view.runAsync();
    // Labels take what they need: measure once, then give the rest to the marks.
    const drawn = this.canvas.querySelector("svg").getBoundingClientRect().width;
    if (Math.abs(drawn - available) > 3) await this.widen(available - drawn);
    this.box.dataset.drawn = "true";
  };

  // Arrow keys move through the marks, Enter and Space click; a mark shows its tooltip in focus.
  Chart.prototype.key = function (event) {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const chosen = document.activeElement;
    const at = chosen.closest(NAMED);
    if ((event.key === "Enter" || event.key === " ") && at) this.point(at, "click");
    else if (step) {
      const marks = Array.from(this.canvas.querySelectorAll(NAMED));
      const place = at ? marks.indexOf(at) + step : 0;
      const next = marks[(place + marks.length) % marks.length];
      if (!next) return;
      next.setAttribute("tabindex", "-1");
      next.focus();
      this.point(next, "pointermove");
    } else return;
    event.preventDefault();
  };

  Chart.prototype.point = function (mark, kind) {
    const box = mark.getBoundingClientRect();
    const place = { clientX: box.x + box.width / 2, clientY: box.y + box.height / 2, bubbles: true };
    mark.dispatchEvent(kind === "click" ? new MouseEvent(kind, place) : new PointerEvent(kind, place));
  };

  // ---------------------------------------------------------------- downloads, and a table

  Chart.prototype.tools = function () {
    const chart = this;
    function button(text, action) {
      const made = element("button", { type: "button", textContent: text });
      made.setAttribute("aria-label", "Download this chart as " + text);
      made.addEventListener("click", action);
      return made;
    }
    const table = element("div", { className: "nbutils-scroll" });
    const more = element("details", { className: "nbutils-data" }, [
      element("summary", { textContent: "Table" }), table,
    ]);
    more.addEventListener("toggle", function () {
      if (!table.firstChild) table.append.apply(table, chart.table());
    });
    return element("div", { className: "nbutils-tools" }, [
      button("PNG", function () { chart.png(); }),
      button("SVG", async function () { chart.save(await chart.svg(), "svg", "image/svg+xml"); }),
      button("CSV", function () { chart.save(chart.csv(), "csv", "text/csv"); }),
      more,
    ]);
  };

  // What a chart shows as rows. A chart of several tables says in "part" which a row is of.
  Chart.prototype.rows = function () {
    const tables = this.spec.data.map(function (d) { return d.values; })
      .filter(function (values) { return Array.isArray(values) && values.length > 1; });
    const columns = Array.from(new Set(tables.flatMap(function (rows) { return Object.keys(rows[0]); })));
    const several = tables.length > 1;
    return [several ? ["part"].concat(columns) : columns].concat(tables.flatMap(function (rows, part) {
      return rows.map(function (row) {
        const cells = columns.map(function (c) { return row[c] === null ? "" : row[c] ?? ""; });
        return several ? [part + 1].concat(cells) : cells;
      });
    }));
  };

  Chart.prototype.csv = function () {
    function cell(value) {
      // A spreadsheet takes a text that begins like this for a formula.
      const text = typeof value === "string" && /^[=+\-@]/.test(value) ? "'" + value : String(value);
      return /[",\r\n]/.test(text) ? '"' + text.replace(/"/g, '""') + '"' : text;
    }
    return this.rows().map(function (row) { return row.map(cell).join(","); }).join("\n") + "\n";
  };

  Chart.prototype.table = function () {
    const rows = this.rows();
    function line(kind) {
      return function (row) {
        return element("tr", {}, row.map(function (value) {
          return element(kind, { textContent: String(value) });
        }));
      };
    }
    const body = element("tbody", {}, rows.slice(1, ROWS + 1).map(line("td")));
    const made = element("table", { className: "nbutils-table" }, [
      element("thead", {}, [line("th")(rows[0])]), body,
    ]);
    const left = rows.length - 1 - ROWS;
    const told = "The first " + ROWS + " rows; " + left + " more are in the CSV file.";
    return left > 0 ? [made, element("p", { textContent: told })] : [made];
  };

  // In the colours of a light page on white, whatever the page's theme.
  Chart.prototype.svg = async function () {
    this.shade(false);
    await this.view.runAsync();
    const text = (await this.view.toSVG()).replace(/var\([\w-]+, (#\w+)\)/g, "$1");
    this.shade(isDark());
    await this.view.runAsync();
    return text.replace(/(<svg[^>]*>)/, '$1<rect width="100%" height="100%" fill="#fff"/>');
  };

  Chart.prototype.png = async function () {
    const source = URL.createObjectURL(new Blob([await this.svg()], { type: "image/svg+xml" }));
    const picture = new Image();
    picture.src = source;
    await picture.decode();
    const canvas = element("canvas", { width: 2 * picture.width, height: 2 * picture.height });
    canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
    URL.revokeObjectURL(source);
    const chart = this;
    canvas.toBlob(function (blob) { chart.save(blob, "png", "image/png"); });
  };

  Chart.prototype.save = function (content, ending, type) {
    const figure = this.box.closest("figure[id]");
    const page = location.pathname.split("/").pop().replace(/\.html$/, "");
    const address = URL.createObjectURL(new Blob([content], { type: type }));
    const name = (figure ? figure.id : page) + "." + ending;
    element("a", { href: address, download: name }).click();
    setTimeout(function () { URL.revokeObjectURL(address); }, 1000);
  };

  // ---------------------------------------------------------------- the page

  function live(boxes) {
    const charts = boxes.map(function (box) { return new Chart(box); });
    let queue = Promise.resolve();
    function all(wanted, act) {
      charts.filter(wanted).forEach(function (chart) {
        queue = queue.then(function () { return act(chart); });
      });
    }
    function draw(chart) { return chart.draw(); }
    (document.querySelector("main") || document.body).append(tip);
    all(function () { return true; }, draw);
    new MutationObserver(function () {
      all(function (chart) { return chart.view; }, function (chart) {
        chart.shade(isDark());
        return chart.view.runAsync();
      });
    }).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
    let wait = null;
    new ResizeObserver(function () {
      clearTimeout(wait);
      wait = setTimeout(function () {
        all(function (chart) { return Math.abs(chart.box.clientWidth - chart.width) > 4; }, draw);
      }, 150);
    }).observe(document.querySelector(".bd-article") || document.body);
  }

  function start() {
    const boxes = Array.from(document.querySelectorAll(".nbutils-chart"));
    if (!boxes.length) return;
    const script = element("script", { src: new URL("generated/vega.js", here).href });
    script.onload = function () { live(boxes); };
    document.head.append(script);
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
