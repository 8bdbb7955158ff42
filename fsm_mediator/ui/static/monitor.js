// Adds live updates, keys and a slider to a page. Links and forms also work without this script.
"use strict";
(() => {
  const POLL = 2000;
  let source, polling, known = "";
  const live = () => document.getElementById("live");
  const pulse = (sign, words) => {
    const mark = document.getElementById("pulse");
    mark.textContent = sign;
    mark.title = words;
  };

  // While a person writes into a form or has opened a form, the page is not refreshed. It is refreshed afterwards.
  const busy = () => {
    const at = document.activeElement;
    const writing = at && live().contains(at) && /^(INPUT|TEXTAREA|SELECT)$/.test(at.tagName);
    return writing || live().querySelector(".verbs details[open]") !== null;
  };
  const refresh = () => { if (!busy()) htmx.trigger(live(), "refresh"); };

  const poll = () => {
    if (polling) return;
    pulse("◌", "This page asks for news every two seconds");
    polling = setInterval(refresh, POLL);
  };
  const listen = () => {
    if (!window.EventSource) return poll();
    const heard = setTimeout(() => { source.close(); poll(); }, 5000); // a proxy delays the events
    known = live().dataset.digest;
    source = new EventSource(document.body.dataset.events + "&known=" + known);
    source.onopen = () => { clearTimeout(heard); pulse("●", "This page is live"); };
    source.addEventListener("changed", refresh);
    source.onerror = () => {
      pulse("○", "The connection was lost; it is tried again");
      if (source.readyState === EventSource.CLOSED) poll();
    };
  };

  let row = -1;
  const rows = () => [...document.querySelectorAll("main .rows tbody tr")];
  const move = (by) => {
    const all = rows();
    if (!all.length) return;
    all.forEach((each) => each.classList.remove("here"));
    row = Math.min(Math.max(row + by, 0), all.length - 1);
    all[row].classList.add("here");
    all[row].scrollIntoView({ block: "nearest" });
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (/^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName)) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (event.key === "j") move(1);
    else if (event.key === "k") move(-1);
    else if (event.key === "/") { event.preventDefault(); document.getElementById("find").focus(); }
    else if (event.key === "Enter" && row >= 0 && event.target === document.body) rows()[row]?.querySelector("a")?.click();
  });

  // The slider chooses the moment that the picture shows. A click on a state shows only the records of this state.
  const go = (changes) => {
    const url = new URL(location.href);
    for (const [name, value] of Object.entries(changes)) value ? url.searchParams.set(name, value) : url.searchParams.delete(name);
    return url;
  };
  document.addEventListener("input", async (event) => {
    if (!event.target.matches("[data-slider]")) return;
    const at = event.target.value;
    event.target.form.querySelector("output").textContent = at + " of " + event.target.max;
    const answer = await fetch(go({ at }), { headers: { accept: "text/html" } });
    if (!answer.ok || event.target.value !== at) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    document.getElementById("machine").replaceChildren(...page.getElementById("machine").childNodes);
  });
  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-submits]")) event.target.form.submit();
  });
  document.addEventListener("click", (event) => {
    const node = event.target.closest("#machine .node");
    if (node?.id) location.href = go({ state: node.id }) + "#timeline";
  });

  addEventListener("DOMContentLoaded", listen);
  addEventListener("pagehide", () => source?.close());
})();
