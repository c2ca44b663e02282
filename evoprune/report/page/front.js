// The front: what the best point of every size keeps, and a budget that picks one.

const LOG_ABOVE = 30;
const PICK_ROOM = 18;

// The part of a column that can be drawn: shares of dense where that is known.
function axisOf(d, name, split) {
  const whole = d.dense[`${split}_${name}`] ?? d.dense[name];
  const cost = d.costs.includes(name) && whole > 0;
  const unit = d.units[name] && !mobile() && name !== "quality_kept" ? `, ${d.units[name]}` : "";
  const where = measured(d, name) ? ` · ${SPLITS[split]} split` : "";
  if (cost) return { name, whole, title: `${called(name)}, share of the dense model`, format: tick };
  if (name === "quality_kept")
    return { name, whole: 1, title: `quality kept${where}`, format: tick };
  return { name, whole: 1, title: `${called(name)}${aim(d, name)}${unit}${where}`, format: short };
}

const tick = (value) => `${Number((100 * value).toPrecision(4))}%`;
const short = (value) => {
  const size = Math.abs(value);
  if (size >= 1e15 || (size && size < 1e-3)) return value.toExponential(0);
  for (const [unit, suffix] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]])
    if (size >= unit) return `${Number((value / unit).toPrecision(3))} ${suffix}`;
  return String(Number(value.toPrecision(3)));
};

const series = (part, axis, split) =>
  (part.values[column(part.values, axis.name, split)] ?? []).map((v) => (finite(v) ? v / axis.whole : null));

// The range of an axis: of the fronts and the dense model, no further than knowing only frequencies.
function rangeOf(d, axis, split, parts) {
  const seen = parts.flatMap((part) => series(part, axis, split)).filter(finite);
  const dense = d.dense[column(d.dense, axis.name, split)];
  if (finite(dense)) seen.push(dense / axis.whole);
  if (axis.name === "quality_kept") seen.push(1);
  if (!seen.length) return { low: 0, high: 1 };
  let [low, high] = [Math.min(...seen), Math.max(...seen)];
  const zero = axis.name === "quality_kept" ? 0 : d.zero[`${split}_${axis.name}`];
  const clipped = finite(zero) && (more(d, axis.name) ? low < zero : high > zero);
  if (clipped) [low, high] = more(d, axis.name) ? [zero, high] : [low, zero];
  const positive = Math.min(...seen.filter((v) => v > 0));
  // A few far points would press all others onto an edge.
  if (axis.format === short && low >= 0 && high > LOG_ABOVE * positive)
    return { low: low > 0 ? low * 0.95 : positive / 2, high: high * 1.1, log: true, clipped };
  const room = (high - low || Math.abs(high) || 1) * 0.04;
  if (d.costs.includes(axis.name)) return { low: Math.max(0, low - room), high: high + room };
  return { low: clipped ? low : low - room, high: high + room, clipped };
}

// The best point of every size, as [index, …]; those the run itself would choose, where it says so.
function stairsOf(d, part, axis, yAxis, split) {
  const told = part === d.fronts[0] ? d.stairs?.[axis.name] : undefined;
  if (told) return told.map(([, index]) => index);
  const [xs, ys] = [series(part, axis, split), series(part, yAxis, split)];
  const sign = more(d, yAxis.name) ? 1 : -1;
  const found = [];
  let best = -Infinity;
  for (const i of xs.map((_, k) => k).filter((k) => finite(xs[k]) && finite(ys[k]))
    .sort((a, b) => xs[a] - xs[b] || sign * (ys[b] - ys[a])))
    if (sign * ys[i] > best) { best = sign * ys[i]; found.push(i); }
  return found;
}

const pointLines = (d, part, i, split) => [
  `${part.ids[i]} · ${part.origin}`,
  ...["quality_kept", ...Object.keys(d.goals), "params", "flops"]
    .filter((n, k, list) => list.indexOf(n) === k)
    .map((n) => [n, part.values[column(part.values, n, split)]?.[i]])
    .filter(([, v]) => finite(v)).map(([n, v]) => `${called(n)}  ${shown(n, v)}`),
];

function drawBand(made, part, stair, axes, split) {
  const of = column(part.values, axes.y.name, split);
  const [low, high] = [part.values[`${of}_low`], part.values[`${of}_high`]];
  if (!low || !high) return;
  const xs = series(part, axes.x, split);
  const known = stair.filter((i) => finite(low[i]) && finite(high[i]));
  if (known.length < 2) return;
  const edge = (ends) => known.map((i) => [made.x(xs[i]), made.y(ends[i] / axes.y.whole)]);
  const [top, under] = [steps(edge(high)), edge(low)];
  const last = made.x(xs[known.at(-1)]);
  const back = under.reverse().map(([x, y], k, list) =>
    k ? `H${list[k - 1][0]}V${y}` : `L${last} ${y}`);
  // Backwards a step is: down at its right end, then level to its left end.
  made.plot.append(svg("path", {
    d: `${top}${back.join("")}H${made.x(xs[known[0]])}Z`, fill: css("--accent"), opacity: 0.13,
  }));
}

function drawLine(made, points, tone, strong) {
  if (!points.length) return;
  // A larger budget buys nothing more than the last point does.
  if (strong)
    made.plot.append(svg("path", {
      d: `M${points.at(-1)[0]} ${points.at(-1)[1]}H${made.right}`, stroke: tone,
      "stroke-width": 1.4, "stroke-opacity": 0.5, "stroke-dasharray": "2 4",
    }));
  made.plot.append(svg("path", {
    d: steps(points), fill: "none", stroke: tone, "stroke-width": strong ? 2.2 : 1.4,
    "stroke-opacity": strong ? 1 : 0.5, "stroke-linejoin": "round",
  }));
}

function drawMarks(made, points, tone, size, opacity = 1) {
  for (const [x, y] of points)
    made.plot.append(svg("circle", {
      cx: x, cy: y, r: size, fill: tone, "fill-opacity": opacity, stroke: css("--surface"),
    }));
}

const banded = (part, axes, split) => {
  const of = column(part.values, axes.y.name, split);
  return Boolean(part.values[`${of}_low`]?.some(finite));
};

// Names stand to the right of their points, where a step line leaves room: below one that rises,
// above one that falls.
function drawNames(made, named, rises) {
  const placed = [];
  const down = rises ? 1 : -1;
  for (const { x, y, text } of named) {
    const start = Math.min(x + 8, made.right - 8 * text.length);
    let at = y + (rises ? 20 : -10);
    while (placed.some(([px, py]) => Math.abs(px - x) < 110 && Math.abs(py - at) < PICK_ROOM))
      at += down * PICK_ROOM;
    placed.push([x, at]);
    made.plot.append(svg("circle", {
      cx: x, cy: y, r: 7, fill: css("--accent"), stroke: css("--surface"), "stroke-width": 2,
    }), svg("text", {
      x: start, y: at, fill: css("--ink"),
      "font-weight": 650, "font-size": 13.5, "paint-order": "stroke", stroke: css("--surface"),
      "stroke-width": 4, class: "name",
    }, text));
  }
}

// The recommendations by point, so that one point has one label.
function namesOf(d) {
  const found = new Map();
  for (const { name, index } of d.picks ?? [])
    found.set(index, [...(found.get(index) ?? []), name]);
  return [...found].map(([index, names]) => [index, names.join(" = ")]);
}

function legend(el, items) {
  const bar = find("[data-role=legend]", el.closest(".figure"));
  bar.replaceChildren(...items.map(([text, tone, shape]) => {
    const item = make("span", text, { class: `key ${shape}` });
    item.style.setProperty("--tone", tone);
    return item;
  }));
}

// Whether a figure has values of a name on any of some splits.
const held = (d, name, splits) => splits.some((split) =>
  name in (d.dots?.[split].values ?? {}) || d.fronts.some((f) => column(f.values, name, split) in f.values));

// Quality against size where the run has both, else what it has: one that was stopped has no costs.
function standardAxes(d) {
  const known = (name) => held(d, name, Object.keys(SPLITS));
  const objectives = Object.keys(d.goals).filter(known);
  const counted = objectives.filter((n) => d.costs.includes(n));
  const rest = objectives.filter((n) => !counted.includes(n));
  const y = ["quality_kept", ...rest, ...objectives].find(known);
  const x = ["params", ...counted, ...objectives.filter((n) => n !== y), ...objectives].find(known);
  return { x, y };
}

function drawFront(el, d) {
  const pick = controls(el, d, standardAxes(d));
  const { split } = pick;
  if (!pick.x || !pick.y) return instead(el, "Nothing was evaluated yet.");
  const axes = { x: axisOf(d, pick.x, split), y: axisOf(d, pick.y, split) };
  const parts = d.fronts.filter((part) => part.ids.length);
  const bounds = parts.length ? parts : [{ values: d.dots[split].values }];
  const ranges = { x: rangeOf(d, axes.x, split, bounds), y: rangeOf(d, axes.y, split, bounds) };
  const made = frame(el, {
    x: { ...axes.x, ...ranges.x }, y: { ...axes.y, ...ranges.y },
    label: `${axes.y.title} against ${axes.x.title}; the table of points says the same in numbers`,
  });
  const targets = drawDots(made, d, axes, split);
  const dots = targets.length;
  drawDense(made, d, axes, split, targets);
  const hidden = drawFronts(made, d, axes, split, targets);
  pointing(made.root, targets);
  legend(el, [
    ...d.fronts.map((part, i) => [part.origin, colour(i), i ? "thin" : "line"])
      .filter((_, i) => d.fronts[i].ids.length),
    ...(Object.keys(d.dense).length ? [["dense", css("--ink"), "ring"]] : []),
    ...(dots ? [["also evaluated", css("--faint"), "dot"]] : []),
  ]);
  caption(el, frontCaption(d, axes, ranges, split, hidden));
  startBudget(el, d, { made, axes, split });
  return undefined;
}

// Returns how many points lie outside of the axes; targets gets what can be pointed at.
function drawFronts(made, d, axes, split, targets) {
  let hidden = 0;
  d.fronts.map((part, index) => [part, index]).reverse().forEach(([part, index]) => {
    const [xs, ys] = [series(part, axes.x, split), series(part, axes.y, split)];
    const stair = stairsOf(d, part, axes.x, axes.y, split);
    const place = (i) => [made.x(xs[i]), made.y(ys[i])];
    const known = part.ids.map((_, i) => i).filter((i) => finite(xs[i]) && finite(ys[i]));
    const seen = known.filter((i) => made.x.inside(xs[i]) && made.y.inside(ys[i]));
    if (!index) drawBand(made, part, stair, axes, split);
    if (!index || d.costs.includes(axes.x.name))
      drawLine(made, stair.filter((i) => known.includes(i)).map(place), colour(index), !index);
    const on = new Set(stair);
    drawMarks(made, seen.filter((i) => !on.has(i)).map(place), colour(index), index ? 2.5 : 3.5, 0.45);
    // A point without a line would hardly be seen.
    const alone = part.ids.length === 1;
    drawMarks(made, seen.filter((i) => on.has(i)).map(place), colour(index),
      index && !alone ? 2.5 : 4.5, index && !alone ? 0.6 : 1);
    for (const i of seen)
      targets.push([...place(i), () => pointLines(d, part, i, split), () => openPoint(d, index, i)]);
    if (index) return;
    hidden = known.length - seen.length;
    drawNames(made, namesOf(d).filter(([i]) => seen.includes(i))
      .map(([i, text]) => ({ x: made.x(xs[i]), y: made.y(ys[i]), text })).sort((a, b) => b.x - a.x),
    more(d, axes.y.name));
  });
  return hidden;
}

function drawDots(made, d, axes, split) {
  const part = d.dots[split];
  const [xs, ys] = [axes.x, axes.y].map((axis) =>
    part.values[axis.name]?.map((v) => (finite(v) ? v / axis.whole : null)));
  if (!xs || !ys) return [];
  const fronts = new Set(d.fronts.flatMap((front) => front.ids));
  const at = part.ids.map((_, i) => i).filter((i) => finite(xs[i]) && finite(ys[i])
    && made.x.inside(xs[i]) && made.y.inside(ys[i]) && !fronts.has(part.ids[i]));
  made.plot.append(svg("path", {
    d: dotPath(at.map((i) => [made.x(xs[i]), made.y(ys[i])])), "stroke-linecap": "round",
    class: "dots", ...(fronts.size ? { stroke: css("--faint"), "stroke-width": 4, opacity: 0.4 }
      : { stroke: css("--accent"), "stroke-width": 7, opacity: 0.7 }),
  }));
  return at.map((i) => [
    made.x(xs[i]), made.y(ys[i]), () => [part.ids[i], "evaluated, not on the front"],
    () => openDot(d, split, i),
  ]);
}

function drawDense(made, d, axes, split, targets) {
  const [x, y] = [axes.x, axes.y].map((axis) =>
    axis.name === "quality_kept" ? 1 : d.dense[column(d.dense, axis.name, split)] / axis.whole);
  if (!finite(x) || !finite(y) || !made.y.inside(y)) return;
  made.plot.append(svg("circle", {
    cx: made.x(x), cy: made.y(y), r: 8, fill: "none", stroke: css("--ink"), "stroke-width": 1.5,
  }));
  targets.push([made.x(x), made.y(y), () => ["the dense model"], undefined]);
}

function frontCaption(d, axes, ranges, split, hidden) {
  const told = [];
  const staired = d.stairs?.[axes.x.name];
  if (staired && d.fronts[0].ids.length)
    told.push(`The line is the best point inside every budget of ${called(axes.x.name)}, chosen on validation`
      + `${banded(d.fronts[0], axes, split) ? "; the band is its 95% bootstrap interval" : ""}.`);
  if (ranges.y.clipped)
    told.push(`The axis ends where a model knows only frequencies${hidden ? ` (${hidden} points lie beyond)` : ""}.`);
  if (ranges.x.log || ranges.y.log) told.push("Logarithmic where values span decades.");
  const total = d.dots[split].total;
  const lacking = [axes.x, axes.y].filter(({ name }) => !held(d, name, [split]));
  for (const { name } of lacking) told.push(`The ${called(name)} was not measured on this split.`);
  const thinned = total > d.dots[split].ids.length ? `, ${d.dots[split].ids.length} of them drawn` : "";
  if (total) told.push(`${total} patterns were evaluated on this split${thinned}.`);
  told.push("Click a point for all about it.");
  return told.join(" ");
}
