// The other figures: several runs, progress, what survives.

function drawOverlay(el, d) {
  const pick = controls(el, d, standardAxes(d));
  const axes = { x: axisOf(d, pick.x, pick.split), y: axisOf(d, pick.y, pick.split) };
  const ranges = { x: rangeOf(d, axes.x, pick.split, d.fronts), y: rangeOf(d, axes.y, pick.split, d.fronts) };
  const made = frame(el, {
    x: { ...axes.x, ...ranges.x }, y: { ...axes.y, ...ranges.y },
    label: `${axes.y.title} against ${axes.x.title}, a line for each run`,
  });
  const best = new Set(d.super);
  const targets = [];
  d.fronts.forEach((part, index) => {
    const [xs, ys] = [series(part, axes.x, pick.split), series(part, axes.y, pick.split)];
    const place = (i) => [made.x(xs[i]), made.y(ys[i])];
    const seen = part.ids.map((_, i) => i).filter((i) => finite(xs[i]) && finite(ys[i])
      && made.x.inside(xs[i]) && made.y.inside(ys[i]));
    drawLine(made, stairsOf(d, part, axes.x, axes.y, pick.split).map(place), colour(index), true);
    drawMarks(made, seen.map(place), colour(index), 4);
    for (const i of seen) {
      const [x, y] = place(i);
      targets.push([x, y, () => pointLines(d, part, i, pick.split), undefined]);
      if (best.delete(part.ids[i]))
        made.plot.append(svg("circle", { cx: x, cy: y, r: 8, fill: "none", stroke: css("--ink") }));
    }
  });
  pointing(made.root, targets);
  legend(el, [...d.fronts.map((part, i) => [part.origin, colour(i), "line"]), ["super-front", css("--ink"), "ring"]]);
  caption(el, `The best of every size of each run, on the ${SPLITS[pick.split]} split; rings mark the `
    + "points that are non-dominated among all of them on validation.");
}

function drawProgress(el, d) {
  const p = d.progress;
  if (!p.evaluations.length) return instead(el, p.why);
  const high = Math.max(...p.hypervolume) * 1.05 || 1;
  const halves = [["evaluations", p.evaluations], ["worker seconds", p.seconds]].map(([title, xs]) => {
    const half = make("div", "", { class: "half" });
    return [half, title, xs];
  });
  el.replaceChildren(...halves.map(([half]) => half));
  for (const [half, title, xs] of halves) {
    const made = frame(half, {
      x: { low: 0, high: Math.max(...xs) || 1, title, format: short },
      y: { low: 0, high, title: "hypervolume", format: short },
      label: `hypervolume against ${title}`,
    });
    const points = xs.map((x, i) => [made.x(x), made.y(p.hypervolume[i])]);
    made.plot.append(svg("path", {
      d: steps(points), fill: "none", stroke: css("--accent"), "stroke-width": 2,
    }));
    pointing(made.root, points.map(([x, y], i) =>
      [x, y, () => [`${short(xs[i])} ${title}`, `hypervolume ${p.hypervolume[i].toFixed(4)}`], undefined]), 60);
  }
  caption(el, "Hypervolume of what the search had found, search split, as a share of the fixed box.");
  return undefined;
}

function drawUnits(el, d) {
  if (!d.units_kept.length) return el.closest(".figure").remove();
  const most = Math.max(...d.units_kept.map((u) => u.unit.at(-1)));
  const made = frame(el, {
    x: { low: 0, high: most || 1, title: "units, the most kept first", format: short },
    y: { low: 0, high: 1.03, title: "kept by", format: tick },
    label: "the share of the front's points that keep each unit",
  });
  d.units_kept.forEach((u, k) => made.plot.append(svg("path", {
    d: polyline(u.unit.map((x, i) => [made.x(x), made.y(u.kept[i])])),
    fill: "none", stroke: colour(k), "stroke-width": 2,
  })));
  legend(el, d.units_kept.map((u, k) => [u.gene, colour(k), "line"]));
  caption(el, "Genes with a bit a unit: the share of the front's points that keep each unit.");
  return undefined;
}

// A picture of many cells is painted, not built of elements.
const WIDEST = 120;
const MAP = { left: 62, right: 12, bar: 56, top: 8, names: 96 };

function drawSurvival(el, d) {
  const s = d.strip;
  const [rows, genes] = [s.ids.length, d.genes.names.length];
  const cell = Math.max(3, Math.min(18, 420 / rows));
  const height = Math.round(MAP.top + MAP.bar + 14 + rows * cell + MAP.names);
  el.style.height = `${height}px`;
  const canvas = make("canvas", "", {
    role: "img", "aria-label": "what each point of the front keeps of each gene, from dense to sparse",
  });
  el.replaceChildren(canvas);
  const ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth;
  Object.assign(canvas, { width: width * ratio, height: height * ratio });
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  pen.font = `12px ${getComputedStyle(document.body).fontFamily}`;
  const step = Math.min(WIDEST, (width - MAP.left - MAP.right) / genes);
  paintMap(pen, d, { cell, step, first: MAP.top + MAP.bar + 14 });
  canvas.onpointermove = (event) => {
    const gene = Math.floor((event.offsetX - MAP.left) / step);
    const row = Math.floor((event.offsetY - MAP.top - MAP.bar - 14) / cell);
    const name = d.genes.names[gene];
    if (name === undefined || row >= rows) { tip.hidden = true; return; }
    if (row < 0) showTip([name, `${percent(s.mean[gene])} kept on average`], event);
    else showTip([name, `${percent(s.shares[row][gene])} kept by ${s.ids[row]}`], event);
  };
  canvas.onpointerleave = () => { tip.hidden = true; };
  const what = s.exact ? "the share of its units" : "how near to dense its level is (the run "
    + "folder holds no space, so genes are numbered)";
  caption(el, `Rows are the ${rows} points of the front from dense to sparse, columns the genes; the `
    + `fuller the colour, the more is kept: ${what}. Bars: the mean over the front.`);
}

function paintMap(pen, d, { cell, step, first }) {
  const s = d.strip;
  const [rows, genes] = [s.ids.length, d.genes.names.length];
  const gap = step > 6 ? 1 : 0;
  const x = (gene) => MAP.left + gene * step;
  for (let gene = 0; gene < genes; gene++) {
    pen.fillStyle = css("--accent");
    const tall = MAP.bar * s.mean[gene];
    pen.fillRect(x(gene), MAP.top + MAP.bar - tall, step - gap, tall);
    for (let row = 0; row < rows; row++) {
      pen.globalAlpha = 1;
      pen.fillStyle = css("--none");
      pen.fillRect(x(gene), first + row * cell, step - gap, cell - (cell > 5 ? 1 : 0));
      pen.globalAlpha = s.shares[row][gene];
      pen.fillStyle = css("--accent");
      pen.fillRect(x(gene), first + row * cell, step - gap, cell - (cell > 5 ? 1 : 0));
    }
    pen.globalAlpha = 1;
  }
  pen.fillStyle = css("--muted");
  pen.textAlign = "right";
  pen.fillText("mean", MAP.left - 8, MAP.top + MAP.bar);
  const every = Math.ceil(15 / cell);
  for (let row = 0; row < rows; row += every)
    pen.fillText(s.labels[row] ?? "", MAP.left - 8, first + row * cell + Math.min(cell, 14) - 2);
  const skip = Math.ceil(15 / step);
  for (let gene = 0; gene < genes; gene += skip) {
    pen.save();
    pen.translate(x(gene) + step / 2 + 4, first + rows * cell + 10);
    pen.rotate(-Math.PI / 3.2);
    pen.fillText(d.genes.names[gene].slice(-18), 0, 0);
    pen.restore();
  }
}
