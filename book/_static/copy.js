// Buttons with data-copy put that text on the clipboard, and say so.
(function () {
  "use strict";

  document.addEventListener("click", async function (event) {
    const button = event.target.closest("button[data-copy]");
    if (!button) return;
    const name = button.dataset.name || button.textContent;
    button.dataset.name = name;
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
      button.textContent = "Copied";
    } catch (error) {
      // A page may be refused the clipboard: the command stands beside the button.
      button.textContent = "Not allowed here: select it";
    }
    setTimeout(function () { button.textContent = name; }, 2000);
  });
})();
