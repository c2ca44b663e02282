// A budget that picks a point: dragged or typed, with the command that exports what it picks.

function startBudget(el, d, drawn) {
  const root = find(".budget", el.closest(".figure"));
  const stairs = d.stairs?.[drawn.axes.x.name];
  if (!root) return;
  root.hidden = !stairs;
  if (!stairs) return;
  const [slider, typed] = [find("input[type=range]", root), find("input[type=number]", root)];
  const { whole, name } = drawn.axes.x;
  find("[data-role=cost]", root).textContent = `% of the ${called(name)}`;
  const [low, high] = [drawn.made.x.low, drawn.made.x.high];
  Object.assign(slider, { min: (100 * low).toFixed(1), max: (100 * high).toFixed(1) });
  // The thumb stands under the line that it moves.
  slider.style.marginLeft = `${MARGIN.left - 8}px`;
  slider.style.width = `${drawn.made.right - MARGIN.left + 16}px`;
  const show = (share) => {
    slider.value = share;
    const limit = (share / 100) * whole;
    const inside = stairs.filter(([value]) => value <= limit * (1 + 1e-9));
    pickBudget(root, d, drawn, share, inside.at(-1)?.[1]);
  };
  slider.oninput = () => { typed.value = slider.value; show(Number(slider.value)); };
  typed.oninput = () => { if (typed.value !== "") show(Number(typed.value)); };
  show(Number(typed.value));
}

function pickBudget(root, d, { made, axes, split }, share, index) {
  const out = find("output", root);
  find(".chosen", made.plot)?.remove();
  const mark = svg("g", { class: "chosen" });
  const at = made.x(share / 100);
  mark.append(svg("line", {
    x1: at, x2: at, y1: MARGIN.top, y2: made.bottom, stroke: css("--ink"), "stroke-dasharray": "4 4",
  }));
  made.plot.append(mark);
  if (index === undefined) {
    out.replaceChildren(make("span", "No point of the front is so small."));
    return;
  }
  const part = d.fronts[0];
  const value = (axis) => part.values[column(part.values, axis.name, split)]?.[index];
  const [x, y] = [value(axes.x) / axes.x.whole, value(axes.y) / axes.y.whole];
  if (finite(x) && finite(y))
    mark.append(svg("circle", {
      cx: made.x(x), cy: made.y(y), r: 10, fill: "none", stroke: css("--ink"), "stroke-width": 2,
    }));
  const words = `The best inside it has ${percent(x)} of the ${called(axes.x.name)}`
    + ` and ${keepsText(d, part, index, split)}.`;
  const open = make("button", `All about ${part.ids[index]}`, { type: "button", class: "link" });
  open.onclick = () => openPoint(d, 0, index);
  const expression = `${axes.x.name}<=${share}%`; // as typed, to the last digit
  out.replaceChildren(make("span", words), commandBox(`${d.command} -p '${expression}'`), open);
}

function keepsText(d, part, index, split) {
  const of = column(part.values, "quality_kept", split);
  const kept = part.values[of]?.[index];
  if (kept < 0) return "keeps none of the quality";
  if (finite(kept)) {
    const [low, high] = [part.values[`${of}_low`]?.[index], part.values[`${of}_high`]?.[index]];
    const ends = finite(low) && finite(high) ? ` [${percent(low)}, ${percent(high)}]` : "";
    return `keeps ${percent(kept)} of the quality${ends}`;
  }
  const name = Object.keys(d.goals).find((n) => measured(d, n)) ?? Object.keys(d.goals)[0];
  return `its ${called(name)} is ${format(part.values[column(part.values, name, split)]?.[index])}`;
}
