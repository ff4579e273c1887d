"use strict";
const $ = (selector, within = document) => within.querySelector(selector);
const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];
const data = JSON.parse($("#data").textContent);

// A node with its attributes and children; texts are texts, whatever they hold.
function make(name, attributes = {}, ...children) {
  const svg = ["svg", "line", "path", "circle", "text", "polyline"].includes(name);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

// As the ledger's own tables write a number: four decimals, or two digits of one that these would leave none of.
function figure(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  return size > 0 && size < 0.001 ? Number(value.toPrecision(2)).toString() : value.toFixed(4);
}

// What a reader has chosen survives a reload of a live page.
const memory = {
  read() { try { return JSON.parse(sessionStorage.getItem("flowlab-report") || "{}"); } catch { return {}; } },
  write(state) { try { sessionStorage.setItem("flowlab-report", JSON.stringify(state)); } catch { /* no storage here */ } },
};
const kept = document.body.dataset.digest ? memory.read() : {};

const repaint = [];  // what draws by colour, and has to do so again in the other theme
{
  const root = document.documentElement, button = $("#theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => root.dataset.theme ? root.dataset.theme === "dark" : system.matches;
  const show = () => { button.setAttribute("aria-pressed", isDark()); repaint.forEach(draw => draw()); };
  try { const theme = localStorage.getItem("flowlab-theme"); if (theme) root.dataset.theme = theme; } catch { /* no storage here */ }
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("flowlab-theme", root.dataset.theme); } catch { /* no storage here */ }
    show();
  });
  system.addEventListener("change", show);
  // Paper is light, whatever the screen is.
  let before = null;
  addEventListener("beforeprint", () => { before = root.dataset.theme || ""; root.dataset.theme = "light"; show(); });
  addEventListener("afterprint", () => { if (before) root.dataset.theme = before; else delete root.dataset.theme; show(); });
  show();
}

// A link to a card opens it.
function openTarget() {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let node = target; node; node = node.parentElement) if (node.tagName === "DETAILS") node.open = true;
  if (target) target.scrollIntoView();
}
addEventListener("hashchange", openTarget);
for (const id of kept.open || []) { const node = document.getElementById(id); if (node) node.open = true; }
openTarget();

// A live page asks whether the campaign has moved on, and loads itself anew where the reader is.
if (document.body.dataset.digest) {
  const keep = () => memory.write({
    scroll: scrollY, open: $$("details[open]").map(node => node.id),
    chosen: Object.fromEntries($$("select, input[type=search]").map(node => [node.id, node.value])),
    shown: $$("#legend button").filter(node => node.getAttribute("aria-pressed") === "true").map(node => node.dataset.run),
  });
  addEventListener("load", () => { if (kept.scroll) scrollTo(0, kept.scroll); });
  const look = async () => {
    try {
      const answer = await fetch("/digest", {cache: "no-store"});
      if (answer.ok && (await answer.text()) !== document.body.dataset.digest) { keep(); location.reload(); return; }
    } catch { /* the server has ended: the page stays as it is */ }
    setTimeout(look, 3000);
  };
  setTimeout(look, 3000);
}
