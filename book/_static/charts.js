// Mounts the book's charts: finds the specs in the page, loads the local bundle once, draws each
// chart as SVG in the page's colours, and draws it again when the theme or the width changes.
(function () {
  "use strict";

  const here = document.currentScript.src;
  const MAX_WIDTH = 760;

  function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  function config(narrow) {
    const text = colour("--nbutils-text");
    const muted = colour("--nbutils-muted");
    const grid = colour("--nbutils-grid");
    return {
      background: "transparent",
      axis: {
        labelColor: text, titleColor: muted, gridColor: grid, domainColor: grid, tickColor: grid,
        labelFontSize: narrow ? 11 : 12, tickCount: narrow ? 4 : 7, labelLimit: narrow ? 150 : 220,
      },
      legend: {
        labelColor: text, titleColor: muted, orient: "top", columns: narrow ? 3 : 6,
        titleOrient: narrow ? "top" : "left", symbolStrokeWidth: 2, symbolBaseFillColor: text,
        labelFontSize: narrow ? 11 : 12,
        layout: narrow ? { top: { anchor: "start", direction: "vertical" } } : {},
      },
      title: { color: text, fontSize: narrow ? 13 : 14 },
      header: { labelColor: text },
      range: {
        diverging: [colour("--nbutils-loss"), colour("--nbutils-zero"), colour("--nbutils-win")],
      },
      style: {
        number: { color: text }, muted: { color: muted }, whisker: { color: text },
        dot: { color: text },
      },
    };
  }

  // Vega-Lite fits only single views to their container, so each view's width is set here.
  function withWidth(spec, width) {
    const copy = Object.assign({}, spec);
    if (typeof copy.width === "number") copy.width = width;
    if (copy.spec) copy.spec = withWidth(copy.spec, width);  // what a facet repeats
    ["vconcat", "layer"].forEach(function (key) {
      if (copy[key]) copy[key] = copy[key].map(function (part) { return withWidth(part, width); });
    });
    return copy;
  }

  function merged(base, extra) {
    const copy = Object.assign({}, base);
    Object.keys(extra).forEach(function (key) {
      const both = copy[key] && typeof copy[key] === "object" && !Array.isArray(copy[key]);
      copy[key] = both ? merged(copy[key], extra[key]) : extra[key];
    });
    return copy;
  }

  function parameters(view, names) {
    const kept = {};
    names.forEach(function (name) { kept[name] = view.signal(name); });
    return kept;
  }

  function Chart(box) {
    this.box = box;
    this.spec = JSON.parse(box.querySelector("script").textContent);
    this.controls = document.createElement("div");
    this.controls.className = "nbutils-controls";
    this.canvas = document.createElement("div");
    this.canvas.className = "nbutils-canvas";
    box.append(this.controls, this.canvas);
    this.bound = (this.spec.params || []).filter(function (p) { return p.bind; });
    this.result = null;
    this.width = 0;
  }

  Chart.prototype.embed = async function (width, narrow) {
    const spec = withWidth(this.spec, width);
    spec.config = merged(spec.config || {}, config(narrow));
    if (this.kept) {
      const kept = this.kept;
      spec.params = spec.params.map(function (p) {
        return p.name in kept ? Object.assign({}, p, { value: kept[p.name] }) : p;
      });
    }
    if (this.result) this.result.finalize();
    this.controls.replaceChildren();
    this.result = await window.nbutilsVegaEmbed(this.canvas, spec, {
      renderer: "svg", actions: false, bind: this.controls, mode: "vega-lite",
      tooltip: { theme: "custom" },
    });
    const svg = this.canvas.querySelector("svg");
    if (svg) svg.setAttribute("aria-label", this.spec.description || "An interactive chart");
    return svg ? svg.getBoundingClientRect().width : 0;
  };

  Chart.prototype.draw = async function () {
    const available = Math.min(this.box.clientWidth, MAX_WIDTH);
    if (!available) return;
    this.width = this.box.clientWidth;
    if (this.result) {
      this.kept = parameters(this.result.view, this.bound.map(function (p) { return p.name; }));
    }
    const narrow = available < 520;
    const guess = available - (narrow ? 110 : 140);
    // Axis labels take what they need: measure once, then give the rest to the marks.
    const drawn = await this.embed(guess, narrow);
    if (Math.abs(drawn - available) > 3) {
      await this.embed(Math.max(guess + available - drawn, 120), narrow);
    }
    this.box.dataset.drawn = "true";
  };

  function start() {
    const boxes = Array.from(document.querySelectorAll(".nbutils-chart"));
    if (!boxes.length) return;
    const script = document.createElement("script");
    script.src = new URL("generated/vega.js", here).href;
    script.onload = function () {
      const drawn = boxes.map(function (box) { return new Chart(box); });
      let queue = Promise.resolve();
      function all(wanted) {
        drawn.filter(wanted).forEach(function (chart) {
          queue = queue.then(function () { return chart.draw(); });
        });
      }
      all(function () { return true; });
      let theme = document.documentElement.dataset.theme;
      new MutationObserver(function () {
        if (document.documentElement.dataset.theme === theme) return;
        theme = document.documentElement.dataset.theme;
        all(function () { return true; });
      }).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
      let wait = null;
      new ResizeObserver(function () {
        clearTimeout(wait);
        wait = setTimeout(function () {
          all(function (chart) { return Math.abs(chart.box.clientWidth - chart.width) > 4; });
        }, 150);
      }).observe(document.querySelector(".bd-article") || document.body);
    };
    document.head.append(script);
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
