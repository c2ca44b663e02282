// Small things that every part of the page uses. All files are joined into one script.

const SPLITS = { search: "search", val: "validation", report: "report" };
const NARROW = 640;
const find = (selector, root = document) => root.querySelector(selector);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const parsed = new Map();

function data(name) {
  if (!parsed.has(name)) parsed.set(name, JSON.parse(find(`#data-${name}`).textContent));
  return parsed.get(name);
}

function make(tag, text = "", attributes = {}) {
  const node = document.createElement(tag);
  node.textContent = text;
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}

const finite = (value) => typeof value === "number" && Number.isFinite(value);
const mobile = () => window.innerWidth < NARROW;
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const colour = (index) => css(index ? `--o${((index - 1) % 6) + 1}` : "--accent");
const percent = (value, digits = 1) => `${(100 * value).toFixed(digits)}%`;

// Digits follow the reference, so that a column of a table has one scale.
function format(value, reference = value) {
  if (!finite(value)) return "–";
  const size = Math.abs(reference);
  if (size >= 1e15) return value.toExponential(1);
  for (const [scale, suffix] of [[1e12, "T"], [1e9, "G"], [1e6, "M"]])
    if (size >= scale) return `${(value / scale).toFixed(2)} ${suffix}`;
  if (size >= 1e4) return `${(value / 1e3).toFixed(1)} k`;
  if (value === 0) return "0";
  if (Math.abs(value) < 1e-3) return value.toExponential(1);
  return value.toFixed(size < 2 ? 4 : size < 10 ? 3 : size < 100 ? 2 : size < 1e3 ? 1 : 0);
}

const shown = (name, value, reference) =>
  name.startsWith("quality_kept") && finite(value) ? percent(value) : format(value, reference);

// What a column is called: its split stands before it, unless it only counts.
const column = (values, name, split) => (`${split}_${name}` in values ? `${split}_${name}` : name);
const measured = (d, name) =>
  d.fronts.some((f) => Object.keys(SPLITS).some((s) => `${s}_${name}` in f.values)) ||
  !d.fronts.some((f) => name in f.values);
const LONG = { params: "parameters", flops: "FLOPs", kv_bytes: "key–value bytes", nll: "nll" };
const called = (name) => LONG[name] ?? name.replaceAll("_", " ");
const aim = (d, name) => (d.goals[name] ? (d.goals[name] === "max" ? " ↑" : " ↓") : "");
const more = (d, name) => name === "quality_kept" || (d.senses[name] ?? "min") === "max";

// What a pattern removes, a line a gene; undefined where the page does not hold
// it, null where there is none.
function wordsOf(d, part, index) {
  const levels = part.levels?.[index];
  if (!levels) return part.patterns?.[index] ?? levels;
  return [...levels].map((c, g) => [g, parseInt(c, 36)]).filter(([, level]) => level)
    .map(([g, level]) => `${d.genes.names[g]}: ${d.genes.options[g]?.[level] ?? level}`);
}

function splitsOf(d) {
  const held = (s) =>
    d.fronts.some((f) => Object.keys(f.values).some((c) => c.startsWith(`${s}_`))) ||
    Boolean(d.dots?.[s].total);
  return Object.keys(SPLITS).filter(held);
}

function fill(select, options, chosen) {
  if (!select || select.options.length) return;
  for (const [value, text] of options) select.add(new Option(text, value, false, value === chosen));
}

// What is chosen above a figure or a table; the choices are filled in at the first call.
function controls(el, d, standard = {}) {
  const root = el.closest(".figure, .listing");
  const pick = (role) => find(`select[data-role=${role}]`, root);
  const named = d.names.map((n) => [n, called(n)]);
  for (const role of ["x", "y", "z"]) fill(pick(role), named, standard[role]);
  const splits = splitsOf(d);
  fill(pick("split"), splits.map((s) => [s, SPLITS[s]]), splits.at(-1));
  const chosen = Object.fromEntries(["x", "y", "z"].map((role) => [role, pick(role)?.value]));
  return { ...chosen, split: pick("split")?.value ?? "report" };
}

const caption = (el, text) => {
  find("[data-role=caption]", el.closest(".figure, .listing")).textContent = text;
};

function instead(el, text) {
  el.classList.add("plain");
  el.textContent = text;
}
