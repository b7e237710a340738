// Loads MathJax where there is mathematics: Sphinx asks for it on every page that leads to some.
(function () {
  "use strict";
  const here = document.currentScript.src;
  function start() {
    if (!document.querySelector(".math")) return;
    const script = document.createElement("script");
    script.src = new URL("generated/tex-svg.js", here).href;
    document.head.append(script);
  }
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
