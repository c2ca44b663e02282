// Charts as SVG: scales, axes, a hint at the pointer, a picture to save.

const MARGIN = { left: 68, right: 18, top: 14, bottom: 46 };

function svg(tag, attributes = {}, text = "") {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text) node.textContent = text;
  return node;
}

function niceStep(span, count) {
  const raw = span / Math.max(count, 1);
  const power = 10 ** Math.floor(Math.log10(raw));
  const factor = [1, 2, 2.5, 5, 10].find((f) => f * power >= raw * 0.999) ?? 10;
  return factor * power;
}

function ticksOf({ low, high, log }, count) {
  if (!log) {
    const step = niceStep(high - low, count);
    const first = Math.ceil(low / step - 1e-9);
    const size = Math.floor(high / step + 1e-9) - first + 1;
    return Array.from({ length: size }, (_, i) => Number(((first + i) * step).toPrecision(12)));
  }
  const [from, to] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
  const factors = high / low < 300 ? [1, 2, 5] : [1];
  const every = Math.max(1, Math.ceil((to - from) / count));
  const found = [];
  for (let p = from; p <= to; p += every) for (const f of factors) found.push(f * 10 ** p);
  return found.filter((t) => t >= low * 0.999 && t <= high * 1.001);
}

// A scale maps a value to a pixel; what lies outside is put on the edge.
function scale({ low, high, log = false }, from, to) {
  const turn = log ? Math.log10 : (v) => v;
  const [a, b] = [turn(low), turn(high)];
  const at = (value) => {
    const inside = Math.min(Math.max(value, low), high);
    return from + ((turn(inside) - a) / (b - a || 1)) * (to - from);
  };
  return Object.assign(at, { low, high, log, inside: (v) => v >= low && v <= high });
}

// Draws axes into an element and returns where things go: scales x and y, and a group to draw in.
function frame(el, { x, y, label }) {
  const [width, height] = [el.clientWidth || 600, el.clientHeight || 360];
  const root = svg("svg", {
    width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label,
    "font-family": getComputedStyle(document.body).fontFamily, "font-size": 12.5,
  });
  const right = width - MARGIN.right;
  const bottom = height - MARGIN.bottom;
  const made = {
    root, width, height, right, bottom,
    x: scale(x, MARGIN.left, right), y: scale(y, bottom, MARGIN.top),
  };
  const lines = svg("g", { stroke: css("--line") });
  const texts = svg("g", { fill: css("--muted") });
  for (const t of ticksOf(x, width < 480 ? 4 : 8)) {
    const at = made.x(t);
    lines.append(svg("line", { x1: at, x2: at, y1: MARGIN.top, y2: bottom }));
    texts.append(svg("text", { x: at, y: bottom + 18, "text-anchor": "middle" }, x.format(t)));
  }
  for (const t of ticksOf(y, 6)) {
    const at = made.y(t);
    lines.append(svg("line", { x1: MARGIN.left, x2: right, y1: at, y2: at }));
    texts.append(svg("text", { x: MARGIN.left - 8, y: at + 4, "text-anchor": "end" }, y.format(t)));
  }
  const middle = (MARGIN.left + right) / 2;
  texts.append(svg("text", { x: middle, y: height - 8, "text-anchor": "middle" }, x.title));
  const up = `translate(14 ${(MARGIN.top + bottom) / 2}) rotate(-90)`;
  texts.append(svg("text", { transform: up, "text-anchor": "middle" }, y.title));
  made.plot = svg("g");
  root.append(lines, texts, made.plot);
  el.replaceChildren(root);
  return made;
}

// Steps through points sorted by x: level until the next one, then up or down to it.
function steps(points) {
  return points.map(([x, y], i) => (i ? `H${x}V${y}` : `M${x} ${y}`)).join("");
}

function polyline(points) {
  return points.map(([x, y], i) => `${i ? "L" : "M"}${x} ${y}`).join("");
}

// Many dots are one path: a line of no length with a round end is a dot.
const dotPath = (points) => points.map(([x, y]) => `M${x.toFixed(1)} ${y.toFixed(1)}h0`).join("");

const tip = make("div", "", { class: "tip", role: "status" });
tip.hidden = true;
document.body.append(tip);

function showTip(lines, event) {
  tip.replaceChildren(...lines.map((line, i) => make(i ? "div" : "b", line)));
  tip.hidden = false;
  const left = Math.min(event.clientX + 14, window.innerWidth - tip.offsetWidth - 8);
  const below = event.clientY + 16 + tip.offsetHeight < window.innerHeight;
  tip.style.left = `${Math.max(4, left)}px`;
  tip.style.top = `${below ? event.clientY + 16 : event.clientY - tip.offsetHeight - 10}px`;
}

// Targets are [x, y, lines, open]: lines() is what the hint says, open() is what a click does. Where
// two lie together the later one is meant.
function pointing(root, targets, reach = 24) {
  const nearest = (event) => {
    const box = root.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    let [best, distance] = [null, reach ** 2];
    for (const target of targets) {
      const gap = (target[0] - x) ** 2 + (target[1] - y) ** 2;
      if (gap <= distance) [best, distance] = [target, gap];
    }
    return best;
  };
  root.addEventListener("pointermove", (event) => {
    const target = nearest(event);
    root.style.cursor = target?.[3] ? "pointer" : "default";
    if (target) showTip(target[2](), event);
    else tip.hidden = true;
  });
  root.addEventListener("pointerleave", () => { tip.hidden = true; });
  root.addEventListener("click", (event) => nearest(event)?.[3]?.());
}

function saveLink(url, name) {
  const link = make("a", "", { href: url, download: name });
  link.click();
}

function savePicture(el) {
  const name = `evoprune-${el.dataset.chart}`;
  const canvas = find("canvas", el);
  if (canvas) return saveLink(canvas.toDataURL(), `${name}.png`);
  const drawing = find("svg", el);
  if (!drawing) return undefined;
  const text = new XMLSerializer().serializeToString(drawing);
  return saveLink(`data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`, `${name}.svg`);
}
