// What the theme leaves undone for keyboards and screen readers.
(function () {
  "use strict";

  function each(selector, act) { document.querySelectorAll(selector).forEach(act); }

  function named(element, role, name) {
    element.setAttribute("role", role);
    element.setAttribute("aria-label", name);
  }

  function once() {
    each("#pst-primary-sidebar", function (bar) { named(bar, "region", "The book's pages"); });
    each("summary:not([aria-label])", function (arrow) {
      if (!arrow.textContent.trim()) arrow.setAttribute("aria-label", "Pages below this one");
    });
    // Roles that browsers no longer know, on a list whose items have another one.
    each(".citation-list, .citation", function (item) { item.removeAttribute("role"); });
    each("th:empty", function (corner) { corner.replaceWith(document.createElement("td")); });
  }

  // What scrolls sideways must be reachable without a mouse; how much scrolls, the width decides.
  function scrolling() {
    each(".nbutils-scroll, .bd-article pre, .bd-article .output", function (box) {
      const style = getComputedStyle(box);
      const scrolls = /auto|scroll/.test(style.overflowX + style.overflowY) &&
        (box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight);
      if (!scrolls || box.hasAttribute("tabindex")) return;
      box.tabIndex = 0;
      if (box.matches(".nbutils-scroll")) named(box, "group", "A table; arrow keys scroll it.");
    });
  }

  function start() {
    once();
    scrolling();
    new ResizeObserver(scrolling).observe(document.querySelector(".bd-article") || document.body);
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
