// Copying commands, and the drawer at the side that tells all about a point.

const drawer = find("#drawer");
const COPY = "Copy the command";
let opener = null;

// Pages opened from a disk may not have the clipboard's API, or be refused it.
async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = make("textarea", "", { readonly: "", "aria-hidden": "true" });
    area.value = text;
    area.style.cssText = "position:fixed;opacity:0";
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (button) {
    const done = await copyText(button.dataset.copy);
    button.textContent = done ? "Copied" : "Select it and copy";
    // Whoever does not see the text change hears the name of the button change.
    button.setAttribute("aria-label", button.textContent);
    setTimeout(() => {
      button.textContent = "Copy";
      button.setAttribute("aria-label", COPY);
    }, 1600);
  }
  const link = event.target.closest("[data-point]");
  if (link) {
    const d = data(link.closest(".run").dataset.run);
    openPoint(d, 0, d.fronts[0].ids.indexOf(link.dataset.point));
  }
});

// A folder that came from elsewhere may name its points as it likes.
const quoted = (text) => (/^[\w.-]+$/.test(text) ? text : `'${text.replaceAll("'", `'"'"'`)}'`);

function commandBox(text) {
  const box = make("div", "", { class: "command" });
  const button = make("button", "Copy", {
    type: "button", "data-copy": text, "aria-label": COPY,
  });
  // The pick is not broken at its hyphen.
  const [start, pick] = text.split(/ (?=-p )/);
  const code = make("code", `${start} `);
  code.append(make("span", pick));
  box.append(code, button);
  return box;
}

function closeDrawer() {
  drawer.hidden = true;
  opener?.focus?.();
  opener = null;
}

function openDrawer(title, parts) {
  opener ??= document.activeElement;
  const close = make("button", "Close", { type: "button", class: "close" });
  close.onclick = closeDrawer;
  const head = make("div", "", { class: "top" });
  head.append(make("h2", title), close);
  drawer.replaceChildren(head, ...parts);
  drawer.hidden = false;
  drawer.scrollTop = 0;
  close.focus();
}

addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !drawer.hidden) closeDrawer();
});

function grid(head, rows) {
  const table = make("table");
  const line = (cells, tag) => {
    const row = make("tr");
    row.append(...cells.map((cell, i) => make(tag, cell, i ? { class: "num" } : {})));
    return row;
  };
  const [top, body] = [make("thead"), make("tbody")];
  top.append(line(head, "th"));
  body.append(...rows.map((row) => line(row, "td")));
  table.append(top, body);
  const box = make("div", "", { class: "scroll" });
  box.append(table);
  return box;
}

function openPoint(d, front, index) {
  const part = d.fronts[front];
  const [id, tags] = [part.ids[index], part.tags[index] ?? []];
  const parts = [make("p", [part.origin === "search" ? "found by the search" : `of the control ${part.origin}`,
    ...tags].join(" · "), { class: "caption" })];
  if (!front && d.command) parts.push(commandBox(`${d.command} -p ${quoted(id)}`));
  const about = part.about?.[index] ?? {};
  const facts = make("dl");
  for (const [term, text] of Object.entries(about)) facts.append(make("dt", term), make("dd", text));
  if (facts.children.length) parts.push(facts);
  parts.push(make("h3", "Measured"), measuredGrid(d, part, index));
  const costs = d.costs.filter((n) => finite(part.values[n]?.[index]));
  if (costs.length)
    parts.push(make("h3", "Counted"), grid(["", "dense", "this", "share"], costs.map((n) => [
      called(n), format(d.dense[n]), format(part.values[n][index]),
      d.dense[n] > 0 ? percent(part.values[n][index] / d.dense[n]) : "",
    ])));
  parts.push(...clusterPart(d, id), make("h3", "What is removed"), removed(wordsOf(d, part, index)));
  openDrawer(id, parts);
}

function measuredGrid(d, part, index) {
  const names = d.names.filter((n) => Object.keys(SPLITS).some((s) => `${s}_${n}` in part.values));
  const splits = Object.keys(SPLITS);
  const rows = names.map((name) => {
    const dense = name === "quality_kept" ? 1 : d.dense[`report_${name}`];
    const [low, high] = ["low", "high"].map((e) => part.values[`report_${name}_${e}`]?.[index]);
    const ends = finite(low) && finite(high) ? `${shown(name, low)} … ${shown(name, high)}` : "";
    return [called(name) + aim(d, name), shown(name, dense),
      ...splits.map((s) => shown(name, part.values[`${s}_${name}`]?.[index])), ends];
  });
  return grid(["", "dense", "search", "validation", "report", "95% interval"], rows);
}

function clusterPart(d, id) {
  const found = d.losses?.points[id];
  if (!found) return [];
  const say = (v) => (d.losses.measure === "accuracy" ? percent(v) : format(v));
  const kept = d.losses.kept[id];
  const told = kept.some(finite);
  const rows = d.losses.names.map((name, k) =>
    [name, say(d.losses.dense[k]), say(found[k]), ...(told ? [finite(kept[k]) ? percent(kept[k]) : "–"] : [])]);
  const head = ["", "dense", "this", ...(told ? ["quality kept"] : [])];
  return [make("h3", `By cluster: ${d.losses.measure}, report split`), grid(head, rows)];
}

function removed(lines) {
  if (lines === null) return make("p", "It was trained at its size.");
  if (!lines) return make("p", "Its pattern is in the journal.");
  if (!lines.length) return make("p", "Nothing: this is the dense model.");
  const list = make("ul");
  list.append(...lines.map((line) => make("li", line)));
  return list;
}

function openDot(d, split, index) {
  const part = d.dots[split];
  const rows = Object.keys(part.values).map((n) => [called(n), shown(n, part.values[n][index])]);
  const lines = wordsOf(d, part, index);
  openDrawer(part.ids[index], [
    make("p", "evaluated, not on the front", { class: "caption" }),
    grid(["", SPLITS[split]], rows), make("h3", "What is removed"), removed(lines),
  ]);
}
