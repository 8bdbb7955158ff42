// Shows the data `view`, and sends each pressed button to Python, which decides the result.
// Texts are set as text, never as markup; the picture is parsed as XML, in which no script runs.

const COLUMNS = [
  ["choices", "What can happen now"],
  ["ledger", "The ledger: real effects and recorded effects"],
  ["journal", "The journal"],
];

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== false) element.setAttribute(name, value);
  }
  // This attribute keeps JupyterLab from using keys for its own shortcuts. It must be on the element with the focus.
  if (tag === "button" || tag === "input" || "tabindex" in attributes) element.setAttribute("data-lm-suppress-shortcuts", "");
  element.append(...children);
  return element;
}

// A name in which a line can break at the places where a person would break it.
function breaking(name) {
  return name.split(/(?<=[._])/).flatMap((piece) => [piece, make("wbr")]);
}

function pageTheme() {
  const body = document.body;
  const jupyter = body.dataset.jpThemeLight;
  if (jupyter) return jupyter === "true" ? "light" : "dark";
  const vscode = body.dataset.vscodeThemeKind;
  if (vscode) return vscode.includes("light") ? "light" : "dark";
  if (body.classList.contains("dark")) return "dark"; // marimo
  return matchMedia("(prefers-color-scheme: dark)").matches && !body.classList.contains("light") ? "dark" : "light";
}

function picture(view) {
  if (!view.picture.svg) return make("p", { class: "fsm-instead" }, `${view.picture.alt} (${view.picture.instead})`);
  const parsed = new DOMParser().parseFromString(view.picture.svg, "image/svg+xml").documentElement;
  for (const unwanted of parsed.querySelectorAll("script, foreignObject")) unwanted.remove();
  return document.importNode(parsed, true);
}

function choices(view) {
  if (!view.groups.length) return [make("p", { class: "fsm-empty" }, "Nothing: it has ended, for good.")];
  return view.groups.map((group) => {
    const buttons = group.choices.map((choice) => {
      const leads = (choice.event ? `${choice.event} → ` : "") + choice.leads_to;
      const button = make("button", { type: "button", class: "fsm-choice", "data-nature": choice.nature }, ...breaking(choice.label));
      button.dataset.choice = choice.label;
      button.append(make("span", { class: "fsm-leads" }, ...breaking(leads)));
      return button;
    });
    return make("div", { class: "fsm-group", role: "group", "aria-label": group.title }, make("h4", {}, group.title), ...buttons);
  });
}

function table(heads, rows) {
  const head = make("tr", {}, ...heads.map((text) => make("th", { scope: "col" }, text)));
  return make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows));
}

function ledger(view) {
  const rows = view.ledger.map((entry) =>
    make(
      "tr",
      entry.here ? { class: "fsm-here", "aria-current": "step" } : {},
      make("th", { scope: "row" }, ...breaking(entry.path), ...(entry.here ? [make("span", { class: "fsm-small" }, "▶ now")] : [])),
      make(
        "td",
        { class: entry.effect ? "fsm-effect-yes" : "fsm-effect-no" },
        `${entry.effect ? "●" : "○"} ${entry.world}`,
        ...entry.branches.map((branch) => make("span", { class: "fsm-small" }, ...breaking(branch))),
      ),
      make("td", {}, entry.belief, ...entry.notes.map((note) => make("span", { class: "fsm-small" }, note))),
    ),
  );
  return [table(["part", "in the world", "the saga believes"], rows)];
}

function journal(view) {
  if (!view.journal.length) return [make("p", { class: "fsm-empty" }, "Nothing is recorded yet.")];
  const rows = view.journal.map((record) =>
    make(
      "tr",
      {},
      make("td", { class: "fsm-number" }, String(record.seq)),
      make("td", { class: "fsm-number" }, record.at),
      make(
        "td",
        {},
        ...breaking(record.what),
        make("span", { class: "fsm-small" }, ...breaking(`→ ${record.target}`)),
        ...record.details.map((detail) => make("span", { class: "fsm-small" }, ...breaking(detail))),
      ),
    ),
  );
  return [table(["no.", "at", "what is recorded"], rows)];
}

// The attribute `disabled` is not used, because a disabled button loses the focus when a person has just pressed it.
function able(can, ...buttons) {
  for (const button of buttons) button.setAttribute("aria-disabled", String(!can));
}

const FILL = { choices, ledger, journal };

function render({ model, el }) {
  const say = (message) => model.send(message);
  const shown = make("div", { class: "fsm-picture", tabindex: "0", role: "group", "aria-label": "diagram" });
  const step = (name, label, to) => {
    const button = make("button", { type: "button", title: label, "aria-label": label }, name);
    button.addEventListener("click", () => say({ do: "go", position: to(model.get("view")) }));
    return button;
  };
  const first = step("|◀", "to the beginning", () => 0);
  const back = step("◀", "one back", (view) => view.position - 1);
  const onward = step("▶", "one onward", (view) => view.position + 1);
  const last = step("▶|", "to the latest", (view) => view.moments.length - 1);
  const slider = make("input", { type: "range", min: "0", class: "fsm-slider", "aria-label": "moment" });
  slider.addEventListener("input", () => say({ do: "go", position: Number(slider.value) }));
  const count = make("span", { class: "fsm-count" });
  const restart = make("button", { type: "button" }, "Restart");
  restart.addEventListener("click", () => say({ do: "restart" }));
  const steps = make("button", { type: "button", "aria-pressed": "false" }, "Steps");
  steps.addEventListener("click", () => say({ do: "show", view: model.get("view").view === "detail" ? "steps" : "detail" }));
  const full = make("button", { type: "button", "aria-pressed": "false" }, "Full size");
  const said = make("p", { class: "fsm-said", role: "status" });
  const bar = make("div", { class: "fsm-bar", role: "group", "aria-label": "history" }, first, back, slider, onward, last, count, restart, steps, full, said);
  const columns = {};
  const grid = make("div", { class: "fsm-columns" });
  for (const [name, title] of COLUMNS) {
    columns[name] = make("div", name === "choices" ? {} : { class: "fsm-scroll", tabindex: "0", role: "group", "aria-label": title });
    grid.append(make("section", { class: `fsm-${name}`, "aria-label": title }, make("h3", {}, title), columns[name]));
  }
  const root = make("div", { class: "fsm-explorer", role: "region" }, shown, bar, grid);

  full.addEventListener("click", () => {
    root.dataset.size = root.dataset.size === "full" ? "fit" : "full";
    full.setAttribute("aria-pressed", String(root.dataset.size === "full"));
    follow();
  });
  columns.choices.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-choice]");
    if (button) say({ do: "choose", position: model.get("view").position, choice: button.dataset.choice });
  });

  function follow() {
    const here = shown.querySelector("g.node.current");
    if (!here || root.dataset.size !== "full") return;
    const [node, frame] = [here.getBoundingClientRect(), shown.getBoundingClientRect()];
    shown.scrollLeft += node.left + node.width / 2 - frame.left - frame.width / 2;
    shown.scrollTop += node.top + node.height / 2 - frame.top - frame.height / 2;
  }

  function draw() {
    const view = model.get("view");
    const focused = columns.choices.contains(document.activeElement);
    root.dataset.theme = view.theme;
    root.setAttribute("aria-label", `Explorer of the saga ${view.saga}`);
    shown.replaceChildren(picture(view));
    const latest = view.moments.length - 1;
    slider.max = String(latest);
    slider.value = String(view.position);
    slider.setAttribute("aria-valuetext", `moment ${view.position} of ${latest}: ${view.said}`);
    slider.disabled = latest === 0;
    able(view.position > 0, first, back);
    able(view.position < latest, last, onward);
    able(latest > 0, restart);
    count.textContent = `moment ${view.position} of ${latest}`;
    steps.setAttribute("aria-pressed", String(view.view === "steps"));
    if (said.textContent !== view.said) said.textContent = view.said;
    for (const [name, fill] of Object.entries(FILL)) columns[name].replaceChildren(...fill(view));
    columns.journal.scrollTop = columns.journal.scrollHeight;
    if (focused) (columns.choices.querySelector("button") ?? back).focus({ preventScroll: true });
    follow();
  }

  function followTheme() {
    const theme = pageTheme();
    if (theme !== model.get("view").theme) say({ do: "show", theme });
  }

  model.on("change:view", draw);
  const watcher = new MutationObserver(followTheme);
  watcher.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-vscode-theme-kind", "class"] });
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  scheme.addEventListener("change", followTheme);
  el.append(root);
  draw();
  followTheme();
  return () => {
    model.off("change:view", draw);
    watcher.disconnect();
    scheme.removeEventListener("change", followTheme);
  };
}

export default { render };
