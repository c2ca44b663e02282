(() => {
"use strict";

const SPLITS = { search: "search", val: "validation", report: "report" };
const SHAPES = ["circle", "square", "diamond", "triangle-up", "cross", "x", "star"];
const SYMBOLS_3D = ["circle", "square", "diamond", "diamond-open", "cross", "x", "circle-open"];
const NARROW = 640;
const GL_ABOVE = 1500;
const find = (selector, root = document) => root.querySelector(selector);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const loaded = new Map();
const drawn = new Map();

function data(name) {
  if (!loaded.has(name)) loaded.set(name, JSON.parse(find(`#data-${name}`).textContent));
  return loaded.get(name);
}

function make(tag, text = "", attributes = {}) {
  const node = document.createElement(tag);
  node.textContent = text;
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}

// Plotly reads its texts as a little HTML.
const plain = (text) =>
  String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

function format(value, reference = value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(reference);
  for (const [scale, suffix] of [[1e12, "T"], [1e9, "G"], [1e6, "M"]])
    if (size >= scale) return `${(value / scale).toFixed(2)} ${suffix}`;
  if (size >= 1e4) return `${(value / 1e3).toFixed(1)} k`;
  if (value === 0) return "0";
  if (Math.abs(value) < 1e-3) return value.toExponential(1);
  return value.toFixed(size < 2 ? 4 : size < 10 ? 3 : size < 100 ? 2 : size < 1e3 ? 1 : 0);
}

const mobile = () => window.innerWidth < NARROW;
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const colour = (index) => css(index ? `--o${((index - 1) % 6) + 1}` : "--accent");

let gl;
function webgl() {
  if (gl === undefined) {
    const context = document.createElement("canvas").getContext("webgl");
    gl = Boolean(context);
    context?.getExtension("WEBGL_lose_context")?.loseContext();
  }
  return gl;
}

// Columns: what a name means on a split, and how it is called.

const column = (values, name, split) => (`${split}_${name}` in values ? `${split}_${name}` : name);
const measured = (d, name) =>
  d.fronts.some((f) => Object.keys(SPLITS).some((s) => `${s}_${name}` in f.values)) ||
  !d.fronts.some((f) => name in f.values);

function title(d, name, split) {
  const aim = d.goals[name] ? (d.goals[name] === "max" ? " ↑" : " ↓") : "";
  const unit = d.units[name] && !mobile() ? ` (${d.units[name]})` : "";
  return plain(`${name}${aim}${unit}${measured(d, name) ? ` · ${SPLITS[split]}` : ""}`);
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

function controls(el, d) {
  const root = el.closest(".figure, .listing");
  const pick = (role) => find(`select[data-role=${role}]`, root);
  const objectives = Object.keys(d.goals);
  const named = d.names.map((n) => [n, n]);
  const y = objectives.find((n) => measured(d, n)) ?? objectives[0];
  const x = objectives.find((n) => !measured(d, n)) ?? objectives.find((n) => n !== y) ?? y;
  const splits = splitsOf(d);
  fill(pick("x"), named, x);
  fill(pick("y"), named, y);
  fill(pick("split"), splits.map((s) => [s, SPLITS[s]]), splits.at(-1));
  return { x: pick("x")?.value, y: pick("y")?.value, split: pick("split")?.value ?? "report" };
}

const caption = (el, text) => {
  find("[data-role=caption]", el.closest(".figure, .listing")).textContent = text;
};

function instead(el, text) {
  el.classList.add("plain");
  el.textContent = text;
}

// Figures.

function axis(text, more = {}) {
  return {
    title: { text, standoff: 10, font: { size: 13 } }, gridcolor: css("--line"),
    linecolor: css("--faint"), zeroline: false, ticks: "outside", tickcolor: css("--line"),
    automargin: true, ...more,
  };
}

function layout(more) {
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: css("--ink") },
    margin: { l: 56, r: 16, t: 12, b: 48 }, hovermode: "closest",
    hoverlabel: {
      bgcolor: css("--surface"), bordercolor: css("--line"), align: "left",
      font: { color: css("--ink"), size: 13 },
    },
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 13 } },
    ...more,
  };
}

function plot(el, traces, more) {
  Plotly.react(el, traces, layout(more), { responsive: true, displayModeBar: false });
}

function hover(d, part, i, split) {
  const lines = [`<b>${plain(part.ids[i])}</b>`];
  const names = [...Object.keys(d.goals), "params", "flops", "bytes"];
  for (const name of new Set(names)) {
    const values = part.values[column(part.values, name, split)];
    if (values?.[i] !== undefined && values[i] !== null)
      lines.push(`${plain(name)}  ${format(values[i])}`);
  }
  return lines.join("<br>");
}

function bars(part, name, split, tone) {
  const of = column(part.values, name, split);
  const [low, high] = [part.values[`${of}_low`], part.values[`${of}_high`]];
  if (!low || !high) return undefined;
  const middle = part.values[of];
  const gap = (a, b) => (a === null || b === null ? 0 : Math.max(0, a - b));
  return {
    type: "data", symmetric: false, color: tone, thickness: 1, width: 0,
    array: middle.map((m, i) => gap(high[i], m)), arrayminus: middle.map((m, i) => gap(m, low[i])),
  };
}

function points(d, part, index, pick, more = {}) {
  const { x, y, split } = pick;
  const strong = index === 0;
  return {
    type: "scatter", mode: "markers", name: plain(strong && d.dots ? "search" : part.origin),
    x: part.values[column(part.values, x, split)] ?? [],
    y: part.values[column(part.values, y, split)] ?? [],
    error_x: strong ? bars(part, x, split, css("--faint")) : undefined,
    error_y: strong ? bars(part, y, split, css("--faint")) : undefined,
    text: part.ids.map((_, i) => hover(d, part, i, split)), hoverinfo: "text+name",
    customdata: part.ids.map((_, i) => ["front", index, i]),
    marker: {
      color: colour(index), symbol: SHAPES[index % SHAPES.length], size: strong && d.dots ? 10 : 9,
      opacity: strong ? 1 : 0.85, line: { color: css("--surface"), width: 1 },
    },
    ...more,
  };
}

function dots(d, pick) {
  const part = d.dots[pick.split];
  const [x, y] = [pick.x, pick.y].map((n) => part.values[n]);
  if (!x || !y) return [];
  const fronts = new Set(d.fronts.flatMap((front) => front.ids));
  let at = part.ids.map((_, i) => i)
    .filter((i) => x[i] !== null && y[i] !== null && !fronts.has(part.ids[i]));
  const fast = at.length > GL_ABOVE && webgl();
  if (at.length > GL_ABOVE && !fast) {
    const step = Math.ceil(at.length / GL_ABOVE);
    at = at.filter((_, i) => i % step === 0);
  }
  return [{
    type: fast ? "scattergl" : "scatter", mode: "markers", name: "also evaluated",
    x: at.map((i) => x[i]), y: at.map((i) => y[i]),
    text: at.map((i) => hover(d, part, i, pick.split)), hoverinfo: "text",
    customdata: at.map((i) => ["dots", pick.split, i]),
    marker: { color: css("--faint"), size: 5, opacity: 0.4 },
  }];
}

function denseMark(d, pick) {
  const at = (n) => d.dense[column(d.dense, n, pick.split)];
  if (at(pick.x) === undefined || at(pick.y) === undefined) return [];
  return [{
    type: "scatter", mode: "markers", name: "dense", x: [at(pick.x)], y: [at(pick.y)],
    text: ["<b>dense model</b>"], hoverinfo: "text",
    marker: { symbol: "star-open", size: 15, color: css("--ink"), line: { width: 1.5 } },
  }];
}

function range(series, which) {
  const seen = series.flatMap((t) => {
    const error = t[`error_${which}`];
    return t[which].flatMap((v, i) =>
      error ? [v - error.arrayminus[i], v + error.array[i]] : [v]);
  }).filter(Number.isFinite);
  if (!seen.length) return undefined;
  const [low, high] = [Math.min(...seen), Math.max(...seen)];
  const room = (high - low || Math.abs(high) || 1) * 0.06;
  return [low - room, high + room];
}

function drawFront(el, d) {
  const pick = controls(el, d);
  const fronts = d.fronts.map((part, i) => points(d, part, i, pick)).reverse();
  const shown = [...fronts.filter((t) => t.x.length), ...denseMark(d, pick)];
  const faint = dots(d, pick);
  plot(el, [...faint, ...shown], {
    xaxis: axis(title(d, pick.x, pick.split), { range: range(shown, "x") }),
    yaxis: axis(title(d, pick.y, pick.split), { range: range(shown, "y") }),
    legend: { ...layout({}).legend, traceorder: "reversed" },
  });
  const total = d.dots[pick.split].total;
  const behind = faint.length
    ? `Faint: ${faint[0].x.length} of the ${total} patterns evaluated there, fronts left out. `
    : total ? `The ${total} patterns evaluated there are not shown: their costs are not stored. ` : "";
  const ends = pick.split === "report" ? "Bars are 95 % bootstrap intervals. " : "";
  caption(el, `${pick.y} against ${pick.x} on the ${SPLITS[pick.split]} split; ↑ more is better, `
    + `↓ less. ${behind}${ends}Axes are fitted to the fronts. Click a point for its pattern.`);
  clicks(el, d);
}

function clicks(el, d) {
  if (el.dataset.clicks) return;
  el.dataset.clicks = "yes";
  el.on("plotly_click", (event) => {
    const at = event.points[0].customdata;
    if (at) detail(el, d, at);
  });
}

function words(d, [kind, where, i]) {
  if (kind === "front") return d.fronts[where].patterns[i];
  const levels = d.dots[where].levels?.[i];
  if (levels === undefined) return null;
  return [...levels]
    .map((c, g) => [g, parseInt(c, 36)])
    .filter(([, level]) => level)
    .map(([g, level]) => `${d.genes.names[g]}: ${d.genes.options[g]?.[level] ?? level}`);
}

function detail(el, d, at) {
  const box = find("[data-role=detail]", el.closest(".figure, .listing"));
  const [kind, where, i] = at;
  const part = kind === "front" ? d.fronts[where] : d.dots[where];
  const lines = words(d, at);
  box.hidden = false;
  const origin = kind === "front" ? part.origin : "evaluated";
  box.replaceChildren(make("b", part.ids[i]), make("span", ` · ${origin}`));
  if (!lines) box.append(make("div", "Its pattern is in the journal."));
  else if (!lines.length) box.append(make("div", "Nothing is removed: this is the dense model."));
  else {
    const list = make("ul");
    for (const line of lines) list.append(make("li", line));
    box.append(list);
  }
}

function drawSpace(el, d) {
  const { split } = controls(el, d);
  const names = Object.keys(d.goals);
  const text = `The three objectives on the ${SPLITS[split]} split. Drag to turn.`;
  if (!webgl()) return instead(el, "This figure needs WebGL, which this browser does not offer.");
  const traces = d.fronts.map((part, index) => {
    const [x, y, z] = names.map((n) => part.values[column(part.values, n, split)] ?? []);
    return {
      type: "scatter3d", mode: "markers", name: plain(part.origin), x, y, z,
      text: part.ids.map((_, i) => hover(d, part, i, split)), hoverinfo: "text+name",
      customdata: part.ids.map((_, i) => ["front", index, i]),
      marker: {
        size: index ? 4.5 : 6, color: colour(index), opacity: index ? 0.8 : 1,
        symbol: SYMBOLS_3D[index % SYMBOLS_3D.length],
      },
    };
  }).filter((t) => t.x.length).reverse();
  const far = mobile() ? 1.9 : 1.4;
  const side = (n) => ({
    title: { text: plain(`${n} ${d.goals[n] === "max" ? "↑" : "↓"}`), font: { size: 12 } },
    gridcolor: css("--line"), color: css("--muted"), showbackground: false,
    tickfont: { size: 11 }, nticks: 5, zeroline: false,
  });
  plot(el, traces, {
    margin: { l: 0, r: 0, t: 0, b: 0 },
    legend: { ...layout({}).legend, traceorder: "reversed" },
    scene: {
      xaxis: side(names[0]), yaxis: side(names[1]), zaxis: side(names[2]),
      camera: { eye: { x: far, y: far, z: far / 2 }, center: { x: 0, y: 0, z: -0.12 } }, aspectmode: "cube",
    },
  });
  caption(el, text);
  clicks(el, d);
}

function drawProgress(el, d) {
  const p = d.progress;
  if (!p.evaluations.length) return instead(el, p.why);
  const line = (x, more) => ({
    type: "scatter", mode: "lines", x, y: p.hypervolume, line: { color: css("--accent"), width: 2 },
    hovertemplate: "%{x:.4~g}: %{y:.4f}<extra></extra>", showlegend: false, ...more,
  });
  plot(el, [line(p.evaluations), line(p.seconds, { xaxis: "x2", yaxis: "y2" })], {
    xaxis: axis("evaluations", { domain: [0, 0.46], rangemode: "tozero", nticks: 5 }),
    yaxis: axis("hypervolume (share of the box)", { rangemode: "tozero" }),
    xaxis2: axis("worker seconds", { domain: [0.54, 1], rangemode: "tozero", nticks: 5 }),
    yaxis2: axis("", { anchor: "x2", matches: "y", showticklabels: false }),
  });
  caption(el, "Hypervolume of what the search had found, search split, in the fixed box between "
    + "the dense model and the empty one, against evaluations and against cumulated worker seconds.");
}

function drawParallel(el, d) {
  const { split } = controls(el, d);
  const part = d.fronts[0];
  if (!webgl()) return instead(el, "This figure needs WebGL, which this browser does not offer.");
  const costs = ["params", "flops", "bytes", "kv_bytes"].filter((n) => n in part.values);
  const shown = [...new Set([...Object.keys(d.goals), ...costs])].map((name) => {
    const values = part.values[column(part.values, name, split)] ?? [];
    return { name, values, known: values.filter((v) => v !== null) };
  }).filter((s) => s.known.length === part.ids.length);
  const first = shown[0];
  el.style.minWidth = `${shown.length * 125}px`;
  plot(el, [{
    type: "parcoords",
    line: { color: first.values, colorscale: [[0, css("--o1")], [1, css("--accent")]] },
    dimensions: shown.map(({ name, values }) => ({
      label: plain(name) + (d.goals[name] ? (d.goals[name] === "max" ? " ↑" : " ↓") : ""),
      values, tickformat: Math.max(...values) >= 1e4 ? ".3~s" : ".3~f",
    })),
    labelfont: { size: 13 }, tickfont: { size: 12, color: css("--muted") },
    rangefont: { size: 1, color: "rgba(0,0,0,0)" }, unselected: { line: { opacity: 0.08 } },
  }], { margin: { l: 80, r: 60, t: 50, b: 20 } });
  caption(el, `Each line is a point of the front: objectives on the ${SPLITS[split]} split, then `
    + `costs; coloured by ${first.name}. Drag along an axis to select, double-click to undo.`);
}

function drawSurvival(el, d) {
  const s = d.strip;
  const [rows, genes] = [s.ids.length, d.genes.names.length];
  const label = (i) => (s.sparsity[i] === null ? s.ids[i] : s.sparsity[i].toFixed(3));
  const every = Math.ceil(rows / (mobile() ? 12 : 24));
  const ticks = s.ids.map((_, i) => i).filter((i) => i % every === 0);
  const step = Math.ceil(genes / (mobile() ? 8 : 36));
  const at = d.genes.names.map((_, i) => i).filter((i) => i % step === 0);
  el.style.height = `${Math.min(760, 290 + rows * 16)}px`;
  const names = d.genes.names.map(plain);
  plot(el, [
    {
      type: "bar", x: names.map((_, i) => i), y: s.mean, text: names, yaxis: "y2",
      textposition: "none", marker: { color: css("--accent") }, showlegend: false,
      hovertemplate: "%{text}: %{y:.1%} kept on average<extra></extra>",
    },
    {
      type: "heatmap", z: s.shares, zmin: 0, zmax: 1, xgap: genes > 120 ? 0 : 1,
      ygap: rows > 60 ? 0 : 1,
      colorscale: [[0, css("--none")], [1, css("--accent")]],
      showscale: !mobile(), text: s.ids.map((id) => names.map((n) => `${plain(id)}<br>${n}`)),
      hovertemplate: "%{text}: %{z:.1%} kept<extra></extra>",
      colorbar: {
        title: { text: "kept", side: "top" }, tickformat: ".0%", thickness: 10, outlinewidth: 0,
        len: 0.5, y: 0.36, tickvals: [0, 0.5, 1],
      },
    },
  ], {
    bargap: 0.12, margin: { l: 64, r: 8, t: 8, b: 40 },
    xaxis: axis("", {
      tickvals: at, ticktext: at.map((i) => names[i]), showgrid: false, range: [-0.5, genes - 0.5],
      tickangle: -45, tickfont: { size: 12 },
    }),
    yaxis: axis(s.sparsity[0] === null ? "front point" : "sparsity", {
      domain: [0, 0.76], autorange: "reversed", showgrid: false, tickvals: ticks,
      ticktext: ticks.map(label), tickfont: { size: 12 },
    }),
    yaxis2: axis("mean kept", { domain: [0.8, 1], range: [0, 1], tickformat: ".0%", nticks: 3 }),
  });
  const scale = s.exact ? "the share of its units" : "how near to dense its level is (the run "
    + "folder holds no space, so genes are numbered)";
  caption(el, `Rows are the points of the front (${rows}) from dense to sparse, columns the genes; `
    + `colour is ${scale}. Above: the mean over the front.`);
}

function drawUnits(el, d) {
  if (!d.units_kept.length) return el.closest(".figure").remove();
  plot(el, d.units_kept.map((u, i) => ({
    type: "scatter", mode: "lines", name: plain(u.gene), x: u.unit, y: u.kept,
    line: { color: colour(i), width: 2 }, hovertemplate: "%{x}: %{y:.1%}<extra></extra>",
  })), {
    xaxis: axis("units, the most kept first"), showlegend: d.units_kept.length > 1,
    yaxis: axis("kept by", { tickformat: ".0%", range: [0, 1.03] }),
  });
  caption(el, "Genes with a bit a unit: the share of the front's points that keep each unit.");
}

function drawOverlay(el, d) {
  const pick = controls(el, d);
  const best = new Set(d.super);
  const traces = d.fronts.map((part, i) =>
    points(d, part, i, pick, { error_x: undefined, error_y: undefined }));
  const ring = { x: [], y: [] };
  d.fronts.forEach((part, i) => part.ids.forEach((id, k) => {
    if (best.delete(id)) for (const a of ["x", "y"]) ring[a].push(traces[i][a][k]);
  }));
  traces.push({
    type: "scatter", mode: "markers", name: "super-front", ...ring, hoverinfo: "skip",
    marker: { symbol: "circle-open", size: 16, color: css("--ink"), line: { width: 1.2 } },
  });
  plot(el, traces, {
    xaxis: axis(title(d, pick.x, pick.split), { range: range(traces, "x") }),
    yaxis: axis(title(d, pick.y, pick.split), { range: range(traces, "y") }),
  });
  caption(el, `The fronts of all runs on the ${SPLITS[pick.split]} split; rings mark the points `
    + "that are non-dominated among all of them on validation.");
}

// The table of the front.

const TERM = /([^\s<>=!,]+)\s*(<=|>=|!=|==|=|<|>)\s*(-?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)(%?)(?=[\s,&]|$)/gi;
const TESTS = {
  "<=": (a, b) => a <= b, ">=": (a, b) => a >= b, "<": (a, b) => a < b, ">": (a, b) => a > b,
  "=": (a, b) => a === b, "==": (a, b) => a === b, "!=": (a, b) => a !== b,
};

function terms(d, text, split) {
  const values = d.fronts[0].values;
  const tests = [];
  const rest = text.replace(TERM, (_, name, sign, digits, percent) => {
    const of = name in values ? name : column(values, name, split);
    if (!(of in values)) throw new Error(`There is no column '${name}'.`);
    let limit = Number(digits);
    if (percent) {
      const whole = d.dense[of] ?? d.dense[name];
      if (!whole) throw new Error(`The dense '${name}' is not known, so ${digits}% means nothing.`);
      limit = (limit / 100) * whole;
    }
    tests.push((i) => values[of][i] !== null && TESTS[sign](values[of][i], limit));
    return " ";
  });
  if (/[<>=]/.test(rest)) throw new Error(`'${rest.trim()}' is not understood.`);
  for (const word of rest.toLowerCase().split(/[\s,]+/).filter((w) => w && w !== "and" && w !== "&&"))
    tests.push((i) => haystack(d, i).includes(word));
  return tests;
}

function haystack(d, i) {
  const f = d.fronts[0];
  return [f.ids[i], ...f.tags[i], ...f.patterns[i]].join("\n").toLowerCase();
}

function columnsOf(d, split) {
  const values = d.fronts[0].values;
  const costs = ["params", "flops", "bytes", "kv_bytes"];
  const order = [...new Set([...Object.keys(d.goals), ...costs, ...d.names])];
  return order.map((name) => ({ name, of: column(values, name, split) })).filter((c) => c.of in values);
}

// One scale for a column, unless its values are too far apart for one.
function reference(values) {
  const sizes = values.filter(Number.isFinite).map(Math.abs).filter((v) => v);
  if (!sizes.length) return undefined;
  const [least, most] = [Math.min(...sizes), Math.max(...sizes)];
  return most < 1e4 || least > most / 100 ? most : undefined;
}

function head(d, shown, state, redraw) {
  const row = make("tr");
  for (const { name, of } of [{ name: "pattern", of: "" }, ...shown]) {
    const aim = d.goals[name] ? (d.goals[name] === "max" ? " ↑" : " ↓") : "";
    const cell = make("th", "", of ? { class: "num", title: d.units[name] ?? "" } : {});
    const button = make("button", name + aim, { type: "button" });
    if (state.by === of) {
      cell.setAttribute("aria-sort", state.up ? "ascending" : "descending");
      button.textContent += state.up ? " ▴" : " ▾";
    }
    button.onclick = () => {
      state.up = state.by === of ? !state.up : true;
      state.by = of;
      redraw();
    };
    cell.append(button);
    row.append(cell);
  }
  const section = make("thead");
  section.append(row);
  return section;
}

function cells(d, shown, i) {
  const f = d.fronts[0];
  const first = make("td");
  first.append(make("code", f.ids[i]), ...f.tags[i].map((tag) => make("span", tag, { class: "tag" })));
  return [first, ...shown.map(({ of, most }) => {
    const cell = make("td", format(f.values[of][i], most), { class: "num" });
    const [low, high] = [f.values[`${of}_low`]?.[i], f.values[`${of}_high`]?.[i]];
    if (Number.isFinite(low) && Number.isFinite(high))
      cell.append(" ", make("small", `${format(low, most)} … ${format(high, most)}`));
    return cell;
  })];
}

function startTable(root) {
  const d = data(root.dataset.of);
  const table = find("[data-role=table]", root);
  const state = { by: "sparsity" in d.fronts[0].values ? "sparsity" : "", up: true };
  const f = d.fronts[0];
  const rank = (a, b) => {
    const [x, y] = state.by ? [f.values[state.by][a], f.values[state.by][b]] : [f.ids[a], f.ids[b]];
    if (x === null || y === null) return (x === null) - (y === null);
    return (x < y ? -1 : x > y ? 1 : 0) * (state.up ? 1 : -1);
  };
  const redraw = () => {
    const { split } = controls(table, d);
    const output = find("[data-role=count]", root);
    let tests = [];
    output.className = "";
    try {
      tests = terms(d, find("[data-role=filter]", root).value, split);
    } catch (error) {
      output.textContent = error.message;
      output.className = "warning";
      return;
    }
    const kept = f.ids.map((_, i) => i).filter((i) => tests.every((test) => test(i))).sort(rank);
    const shown = columnsOf(d, split);
    if (state.by && !shown.some((c) => c.of === state.by)) state.by = shown[0]?.of ?? "";
    for (const c of shown) c.most = reference(f.values[c.of]);
    const body = make("tbody");
    for (const i of kept) {
      const row = make("tr");
      row.append(...cells(d, shown, i));
      row.onclick = () => detail(table, d, ["front", 0, i]);
      body.append(row);
    }
    table.replaceChildren(head(d, shown, state, redraw), body);
    output.textContent = `${kept.length} of ${f.ids.length}`;
    caption(table, `Values on the ${SPLITS[split]} split${split === "report" ? " with 95 % bootstrap "
      + "intervals" : ""}; costs are counted. Filter by any column, a share of dense, or words: `
      + "sparsity>=0.25 params<=60% knee. Click a row for its pattern.");
  };
  for (const input of all("input, select", root)) input.addEventListener("input", redraw);
  redraw();
}

// Everything is drawn when it comes into view, and again when the theme changes.

const DRAW = {
  front: drawFront, space: drawSpace, progress: drawProgress, parallel: drawParallel,
  survival: drawSurvival, units: drawUnits, overlay: drawOverlay,
};

function draw(el) {
  const again = () => DRAW[el.dataset.chart](el, data(el.dataset.of));
  drawn.set(el, again);
  again();
  performance.mark(`drawn ${el.dataset.chart}`);
}

const watcher = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    watcher.unobserve(target);
    // One that fails must not keep the others from being drawn.
    try {
      if (target.dataset.chart) draw(target);
      else startTable(target);
    } catch (error) {
      console.error(error);
      instead(target, `This cannot be drawn: ${error.message}`);
    }
  }
}, { rootMargin: "150px" });

for (const el of all(".listing")) watcher.observe(el);

// Plotly is long: the page is shown and can be read before it is run.
addEventListener("load", () => setTimeout(() => {
  document.head.append(make("script", find("#plotly").textContent));
  performance.mark("plotly");
  for (const el of all(".chart")) watcher.observe(el);
}, 30));

for (const el of all(".figure")) {
  const chart = find(".chart", el);
  for (const select of all("select", el))
    select.addEventListener("change", () => drawn.get(chart)?.());
  const save = find("[data-role=save]", el);
  if (save) save.onclick = () => {
    const filename = `evoprune-${chart.dataset.chart}`;
    if (drawn.has(chart)) Plotly.downloadImage(chart, { format: "svg", filename });
  };
}

const redrawAll = () => { for (const again of drawn.values()) again(); };
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawAll);
find("#theme").onclick = () => {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  root.dataset.theme = (root.dataset.theme ?? system) === "dark" ? "light" : "dark";
  redrawAll();
};

let narrow = mobile();
addEventListener("resize", () => {
  if (mobile() !== narrow) { narrow = mobile(); redrawAll(); }
});

find("#which")?.addEventListener("change", (event) => {
  for (const run of all(".run")) run.hidden = run.dataset.run !== event.target.value;
});
})();
