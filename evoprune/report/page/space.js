// Three objectives at once: points in a box that is turned by dragging or with the arrow keys.

const CORNERS = [0, 1, 2, 3, 4, 5, 6, 7].map((k) => [k & 1, (k >> 1) & 1, (k >> 2) & 1]);
const EDGES = CORNERS.flatMap((a, i) => CORNERS.map((b, j) => [i, j])
  .filter(([, j]) => j > i && a.filter((v, k) => v !== CORNERS[j][k]).length === 1));

// Coordinates in the unit box; logarithmic where a column spans decades.
function unitScale(values) {
  const known = values.filter(finite);
  const [low, high] = [Math.min(...known), Math.max(...known)];
  const positive = Math.min(...known.filter((v) => v > 0));
  if (low >= 0 && high > LOG_ABOVE * positive)
    return scale({ low: low > 0 ? low : positive / 2, high, log: true }, 0, 1);
  return scale({ low, high: high > low ? high : low + 1 }, 0, 1);
}

function project([x, y, z], view) {
  const [a, b] = [x - 0.5, y - 0.5];
  const along = a * Math.cos(view.turn) - b * Math.sin(view.turn);
  const away = a * Math.sin(view.turn) + b * Math.cos(view.turn);
  const up = z - 0.5;
  return {
    x: view.cx + view.size * along,
    y: view.cy - view.size * (up * Math.cos(view.tilt) + away * Math.sin(view.tilt)),
    depth: away * Math.cos(view.tilt) - up * Math.sin(view.tilt),
  };
}

function drawBox(pen, view, axes) {
  const corners = CORNERS.map((corner) => project(corner, view));
  pen.strokeStyle = css("--line");
  for (const [i, j] of EDGES) {
    pen.beginPath();
    pen.moveTo(corners[i].x, corners[i].y);
    pen.lineTo(corners[j].x, corners[j].y);
    pen.stroke();
  }
  pen.fillStyle = css("--muted");
  pen.textAlign = "center";
  axes.forEach((axis, k) => {
    // An axis is named at that of its four edges which lies lowest or furthest out.
    const edges = EDGES.filter(([i, j]) => CORNERS[i][k] !== CORNERS[j][k]).map(([i, j]) => [corners[i], corners[j]]);
    const far = ([a, b]) => (k === 2 ? -(a.x + b.x) : a.y + b.y);
    const [from, to] = edges.sort((p, q) => far(q) - far(p))[0];
    const put = (text, share, [right, down]) => {
      const half = pen.measureText(text).width / 2 + 2;
      const at = from.x + share * (to.x - from.x) + right;
      const inside = Math.max(half, Math.min(2 * view.cx - half, at));
      pen.fillText(text, inside, from.y + share * (to.y - from.y) + down);
    };
    // Away from the middle of the box, so that two axes do not write over one another.
    const aside = k === 2 ? -24 : Math.sign((from.x + to.x) / 2 - view.cx) * 22;
    put(short(axis.low), 0.08, [aside, k === 2 ? 0 : 14]);
    put(short(axis.high), 0.92, [aside, k === 2 ? 0 : 14]);
    pen.font = `600 13px ${getComputedStyle(document.body).fontFamily}`;
    if (k === 2) put(axis.text, from.y < to.y ? 0 : 1, [0, -14]);
    else put(axis.text, 0.5, [aside * 2.2, 26]);
    pen.font = `12px ${getComputedStyle(document.body).fontFamily}`;
  });
}

// Names stand above their points, each clear of those before it.
function nameAll(pen, named) {
  Object.assign(pen, { textAlign: "center", lineWidth: 4, lineJoin: "round" });
  pen.font = `650 13px ${getComputedStyle(document.body).fontFamily}`;
  const set = [];
  for (const { x, y, name } of named.sort((a, b) => a.x - b.x)) {
    let at = y - 14;
    while (set.some(([px, py]) => Math.abs(px - x) < 80 && Math.abs(py - at) < 16)) at -= 16;
    set.push([x, at]);
    pen.strokeStyle = css("--surface");
    pen.strokeText(name, x, at);
    pen.fillStyle = css("--ink");
    pen.fillText(name, x, at);
  }
}

function paintSpace(canvas, view, clouds, axes) {
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  Object.assign(canvas, { width: width * ratio, height: height * ratio });
  Object.assign(view, { cx: width / 2, cy: height / 2, size: Math.min(width, height * 1.15) * 0.52 });
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  pen.font = `12px ${getComputedStyle(document.body).fontFamily}`;
  drawBox(pen, view, axes);
  const placed = clouds.flatMap((cloud) =>
    cloud.points.map((point) => ({ ...point, ...project(point.at, view), cloud })));
  // Where two lie together the front's own point is seen.
  placed.sort((a, b) => (b.depth - b.cloud.strong * 0.02) - (a.depth - a.cloud.strong * 0.02));
  for (const { x, y, depth, cloud, name } of placed) {
    pen.globalAlpha = cloud.strong ? 1 : 0.5;
    pen.fillStyle = cloud.tone;
    pen.beginPath();
    pen.arc(x, y, (cloud.strong ? 5.5 : 3.5) * (1 - 0.3 * depth) + (name ? 2.5 : 0), 0, 2 * Math.PI);
    pen.fill();
  }
  pen.globalAlpha = 1;
  nameAll(pen, placed.filter(({ name }) => name));
  return placed;
}

function cloudsOf(d, names, split, scales) {
  const labels = new Map(namesOf(d));
  return d.fronts.map((part, index) => {
    const columns = names.map((n) => part.values[column(part.values, n, split)] ?? []);
    const points = part.ids.map((_, i) => ({ index: i, raw: columns.map((c) => c[i]) }))
      .filter(({ raw }) => raw.every(finite))
      .map((p) => ({ ...p, at: p.raw.map((v, k) => scales[k](v)), name: index ? "" : labels.get(p.index) }));
    return { points, part, front: index, tone: colour(index), strong: !index };
  }).filter((cloud) => cloud.points.length);
}

function drawSpace(el, d) {
  const goals = Object.keys(d.goals);
  const pick = controls(el, d, { x: goals[0], y: goals[1], z: goals[2] });
  const names = [pick.x, pick.y, pick.z];
  const columns = names.map((n) => d.fronts.flatMap((part) => part.values[column(part.values, n, pick.split)] ?? []));
  if (columns.some((c) => !c.some(finite))) return instead(el, "One of these was not measured on this split.");
  const scales = columns.map(unitScale);
  const axes = names.map((n, k) => ({ text: called(n) + aim(d, n), low: scales[k].low, high: scales[k].high }));
  const clouds = cloudsOf(d, names, pick.split, scales);
  const canvas = make("canvas", "", {
    tabindex: "0", role: "img",
    "aria-label": `${names.map(called).join(", ")} of every point; arrow keys turn it`,
  });
  el.replaceChildren(canvas);
  const view = { turn: 0.7, tilt: 0.35 };
  let placed = paintSpace(canvas, view, clouds, axes);
  const turn = (across, down) => {
    view.turn += across;
    view.tilt = Math.max(-0.2, Math.min(1.4, view.tilt + down));
    placed = paintSpace(canvas, view, clouds, axes);
  };
  turning(canvas, turn, () => placed, d, pick.split);
  legend(el, clouds.map((cloud) => [cloud.part.origin, cloud.tone, "dot"]));
  caption(el, `On the ${SPLITS[pick.split]} split. Drag it, or use the arrow keys, to turn it.`);
  return undefined;
}

function turning(canvas, turn, placed, d, split) {
  let last = null;
  let moved = 0;
  const near = (event) => placed().map((p) => [Math.hypot(p.x - event.offsetX, p.y - event.offsetY), p])
    .filter(([gap]) => gap < 14).sort((a, b) => a[0] - b[0])[0]?.[1];
  canvas.onpointerdown = (event) => { last = [event.clientX, event.clientY]; moved = 0; };
  canvas.onpointermove = (event) => {
    if (last && event.buttons) {
      const step = [event.clientX - last[0], event.clientY - last[1]];
      moved += Math.abs(step[0]) + Math.abs(step[1]);
      last = [event.clientX, event.clientY];
      return turn(step[0] / 160, step[1] / 220);
    }
    const point = near(event);
    if (point) showTip(pointLines(d, point.cloud.part, point.index, split), event);
    else tip.hidden = true;
    return undefined;
  };
  canvas.onpointerleave = () => { last = null; tip.hidden = true; };
  canvas.onclick = (event) => {
    const point = moved < 4 && near(event);
    if (point) openPoint(d, point.cloud.front, point.index);
  };
  canvas.onkeydown = (event) => {
    const step = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] }[event.key];
    if (!step) return;
    event.preventDefault();
    turn(...step);
  };
}
