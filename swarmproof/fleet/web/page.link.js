// In Locust's own page: the link to the live page says how the run stands. Locust's tables stand still once a test has
// ended, which is before its verdict: a person who looks at one of our tabs then gets it by a reload.
"use strict";

(() => {
  const EVERY_MS = 2000;
  const LEFT_WITHIN_MS = 10000;
  let before = null;
  let stale = false; // this page was drawn before the verdict
  let leftAt = -Infinity; // somebody has followed a link: a reload would bring them back
  addEventListener("beforeunload", () => { leftAt = performance.now(); });

  async function look() {
    try {
      const answer = await fetch("./swarmproof/standing", { credentials: "same-origin", cache: "no-store" });
      const now = await answer.json();
      const text = now.verdict ? `Live page: ${now.verdict}` : "Live page";
      const link = document.getElementById("swarmproof-link");
      if (link.textContent !== text) link.textContent = text;
      const ours = (new URLSearchParams(location.search).get("tab") || "").startsWith("swarmproof-");
      const busy = document.querySelector("[role=dialog], dialog[open]") // somebody is filling in a form
        || performance.now() - leftAt < LEFT_WITHIN_MS;
      if (!now.final) stale = false;
      else if (before && !before.final) stale = true;
      if (stale && ours && !busy) location.reload();
      before = now;
    } catch {
      before = null;
    }
    setTimeout(look, EVERY_MS);
  }

  look();
})();
