// The table of the front, with its filter.

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
  return [f.ids[i], ...f.tags[i], ...(wordsOf(d, f, i) ?? [])].join("\n").toLowerCase();
}

function columnsOf(d, split) {
  const values = d.fronts[0].values;
  const order = [...new Set(["params", "quality_kept", ...Object.keys(d.goals), ...d.costs, ...d.names])];
  return order.map((name) => ({ name, of: column(values, name, split) })).filter((c) => c.of in values);
}

// One scale for a column, unless its values are too far apart for one.
function reference(values) {
  const sizes = values.filter(Number.isFinite).map(Math.abs).filter((v) => v);
  if (!sizes.length) return undefined;
  const [least, most] = [Math.min(...sizes), Math.max(...sizes)];
  return most < 1e4 || least > most / 100 ? most : undefined;
}

function head(d, columns, state, redraw) {
  const row = make("tr");
  for (const { name, of } of [{ name: "pattern", of: "" }, ...columns]) {
    const cell = make("th", "", of ? { class: "num", title: d.units[name] ?? "" } : {});
    const button = make("button", called(name) + aim(d, name), { type: "button" });
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

function cells(d, columns, i) {
  const f = d.fronts[0];
  const first = make("td");
  first.append(make("code", f.ids[i]), ...f.tags[i].map((tag) => make("span", tag, { class: "tag" })));
  return [first, ...columns.map(({ name, of, most }) => {
    const cell = make("td", shown(name, f.values[of][i], most), { class: "num" });
    const [low, high] = [f.values[`${of}_low`]?.[i], f.values[`${of}_high`]?.[i]];
    if (Number.isFinite(low) && Number.isFinite(high))
      cell.append(" ", make("small", `${shown(name, low, most)} … ${shown(name, high, most)}`));
    return cell;
  })];
}

function startTable(root) {
  const d = data(root.dataset.of);
  const table = find("[data-role=table]", root);
  const by = ["params", "sparsity"].find((name) => name in d.fronts[0].values) ?? "";
  const state = { by, up: by !== "params" };
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
    const columns = columnsOf(d, split);
    if (state.by && !columns.some((c) => c.of === state.by)) state.by = columns[0]?.of ?? "";
    for (const c of columns) c.most = reference(f.values[c.of]);
    const body = make("tbody");
    for (const i of kept) {
      const row = make("tr");
      row.append(...cells(d, columns, i));
      row.onclick = () => openPoint(d, 0, i);
      row.tabIndex = 0;
      row.onkeydown = (event) => { if (event.key === "Enter") openPoint(d, 0, i); };
      body.append(row);
    }
    table.replaceChildren(head(d, columns, state, redraw), body);
    output.textContent = `${kept.length} of ${f.ids.length}`;
    caption(table, `Values on the ${SPLITS[split]} split${split === "report" ? " with 95% bootstrap "
      + "intervals" : ""}; costs are counted. Filter by any column, a share of dense, or words: `
      + "params<=60% safe. Click a row for all about it.");
  };
  for (const input of all("input, select", root)) input.addEventListener("input", redraw);
  redraw();
}

