// Shows the picture that the kernel has drawn, and replaces it when the kernel sends the next one.
// Texts are set as text, never as markup; the picture is parsed as XML, in which no script runs.

function picture(shown) {
  if (!shown.svg) {
    const instead = document.createElement("p");
    instead.textContent = `${shown.alt} (${shown.instead})`;
    return instead;
  }
  const parsed = new DOMParser().parseFromString(shown.svg, "image/svg+xml").documentElement;
  for (const unwanted of parsed.querySelectorAll("script, foreignObject")) unwanted.remove();
  const svg = document.importNode(parsed, true);
  const wide = parseFloat(svg.getAttribute("width")) * (96 / 72);
  Object.assign(svg.style, { display: "block", maxWidth: "100%", height: "auto", minWidth: `${Math.round(wide / 2)}px` });
  return svg;
}

function render({ model, el }) {
  const frame = document.createElement("div");
  Object.assign(frame.style, { overflowX: "auto" });
  // The reader scrolls a wide picture with keys. JupyterLab must not use these keys for its own shortcuts.
  const access = { tabindex: "0", role: "group", "aria-label": "diagram", "data-lm-suppress-shortcuts": "" };
  for (const [name, value] of Object.entries(access)) frame.setAttribute(name, value);
  const words = document.createElement("p");
  words.className = "fsm-live-words";
  words.setAttribute("role", "status");
  Object.assign(words.style, { margin: "4px 0 0", font: "13px/1.45 system-ui, sans-serif", overflowWrap: "anywhere" });
  const root = document.createElement("div");
  root.className = "fsm-live";
  root.append(frame, words);

  function draw() {
    const shown = model.get("shown");
    root.dataset.state = shown.state;
    root.dataset.motion = shown.motion;
    frame.replaceChildren(picture(shown));
    words.textContent = shown.words;
  }

  model.on("change:shown", draw);
  el.append(root);
  draw();
  model.send({ do: "open" });
  return () => {
    model.off("change:shown", draw);
    model.send({ do: "leave" });
  };
}

export default { render };
