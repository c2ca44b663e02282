// Everything is drawn when it comes into view, and again when the theme or the width changes.

const DRAW = {
  front: drawFront, space: drawSpace, progress: drawProgress,
  survival: drawSurvival, units: drawUnits, overlay: drawOverlay,
};
const drawn = new Map();

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

for (const el of all(".listing, .chart")) watcher.observe(el);

for (const el of all(".figure")) {
  const chart = find(".chart", el);
  for (const select of all("select", el))
    select.addEventListener("change", () => drawn.get(chart)?.());
  const save = find("[data-role=save]", el);
  if (save) save.onclick = () => savePicture(chart);
}

// A figure in a run that is not shown has no width: it is drawn again when it is seen.
const redrawAll = () => {
  for (const [el, again] of drawn) if (el.isConnected && el.offsetParent) again();
};
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawAll);
find("#theme").onclick = () => {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  root.dataset.theme = (root.dataset.theme ?? system) === "dark" ? "light" : "dark";
  redrawAll();
};

let width = window.innerWidth;
let waiting = 0;
addEventListener("resize", () => {
  // A phone's bars come and go with scrolling: only another width is another page.
  if (window.innerWidth === width) return;
  width = window.innerWidth;
  clearTimeout(waiting);
  waiting = setTimeout(redrawAll, 120);
});

find("#which")?.addEventListener("change", (event) => {
  for (const run of all(".run")) run.hidden = run.dataset.run !== event.target.value;
  redrawAll();
});
