// The layers of a merge as a table that is drawn in. The server says what is in it, and writes what is drawn.
"use strict";

(() => {
  const $ = (id) => document.getElementById(`grid-${id}`);
  const [table, head, body, form] = [$("table"), $("head"), $("rows"), $("form")];
  const handle = $("bend-handle");
  let facts = null;
  let layout = "";
  let cells = []; // by row and column
  let range = [0, 1];
  let active = [0, 0];
  let chosen = new Set(); // "row,column"
  let bent = null; // the gradient that the handle bends
  let sending = Promise.resolve();

  const parameter = () => facts.shape.parameters.find((one) => one.name === $("parameter").value) ?? facts.shape.parameters[0];
  const model = () => (parameter().per_model && $("model").value !== "" ? Number($("model").value) : null);
  const key = (row, column) => `${row},${column}`;
  const parts = (text) => text.split(",").map(Number);

  // ---- what is shown ----

  function value(row, column) {
    const all = facts.values[parameter().name];
    const there = (model() === null ? all : [all[model()]]).map((one) => one[row][column]).filter((one) => one !== null);
    const found = there.flat();
    if (!found.length) return there.length ? [] : null;
    const [low, high] = [Math.min(...found), Math.max(...found)];
    return high - low > 1e-9 * Math.max(1, Math.abs(high)) ? [low, high] : high;
  }

  const short = (number) => String(Math.abs(number) >= 0.1 || number === 0 ? Math.round(number * 100) / 100 : Number(number.toPrecision(2))).replace("-", "−");
  const words = (found) => (found === null ? "" : Array.isArray(found) && !found.length ? "not set" : Array.isArray(found) ? `${short(found[0])}–${short(found[1])}` : short(found));
  const middle = (found) => (Array.isArray(found) ? (found.length ? (found[0] + found[1]) / 2 : parameter().default ?? 0) : found);

  function build() {
    const { rows, columns } = facts.shape;
    const now = JSON.stringify([rows, columns]);
    if (now === layout) return;
    layout = now;
    const corner = document.createElement("th");
    corner.scope = "col";
    corner.append(button("Layer", "Select everything", () => pick([0, 0], [rows.length - 1, columns.length - 1])));
    const names = columns.map((name, column) => {
      const th = document.createElement("th");
      th.scope = "col";
      th.append(button(name, `Select ${name} in all layers`, () => pick([0, column], [rows.length - 1, column])));
      return th;
    });
    const top = document.createElement("tr");
    top.append(corner, ...names);
    head.replaceChildren(top);
    cells = [];
    const made = [];
    rows.forEach((row, number) => {
      if (row.section && row.section !== rows[number - 1]?.section) made.push(section(row.section, columns.length + 1));
      made.push(line(row, number, columns.length));
    });
    body.replaceChildren(...made);
    chosen.clear();
    active = first();
    bent = null;
  }

  function button(text, label, act) {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = text;
    made.setAttribute("aria-label", label);
    made.title = label;
    made.addEventListener("click", act);
    return made;
  }

  function section(text, width) {
    const row = document.createElement("tr");
    const th = document.createElement("th");
    th.scope = "rowgroup";
    th.colSpan = width;
    th.textContent = text;
    row.append(th);
    return row;
  }

  function line(row, number, width) {
    const made = document.createElement("tr");
    const th = document.createElement("th");
    th.scope = "row";
    th.append(button(row.label, `Select ${/^\d/.test(row.label) ? "layer " : ""}${row.label}`, () => pick([number, 0], [number, width - 1])));
    cells.push([...Array(width).keys()].map((column) => {
      const td = document.createElement("td");
      td.setAttribute("role", "gridcell");
      td.tabIndex = -1;
      Object.assign(td.dataset, { row: number, column });
      const bar = document.createElement("span");
      bar.className = "bar";
      const text = document.createElement("span");
      text.className = "number";
      td.append(bar, text);
      return td;
    }));
    made.append(th, ...cells.at(-1));
    return made;
  }

  function first() {
    const [row, column] = active;
    if (cells[row]?.[column] && value(row, column) !== null) return active;
    for (let r = 0; r < cells.length; r++) for (let c = 0; c < cells[r].length; c++) if (value(r, c) !== null) return [r, c];
    return [0, 0];
  }

  function paint(over = new Map()) {
    const now = cells.map((row, r) => row.map((_, c) => (over.has(key(r, c)) ? over.get(key(r, c)) : value(r, c))));
    scale(now);
    cells.forEach((row, r) => row.forEach((td, c) => {
      const found = now[r][c];
      td.classList.toggle("nothing", found === null);
      td.classList.toggle("mixed", Array.isArray(found) && found.length > 0);
      const text = words(found);
      if (td.lastElementChild.tagName !== "INPUT" && td.children[1].textContent !== text) td.children[1].textContent = text;
      const share = found === null || found.length === 0 ? 0 : (middle(found) - range[0]) / (range[1] - range[0]);
      td.firstElementChild.style.width = `${Math.max(0, Math.min(1, share)) * 100}%`;
      td.firstElementChild.hidden = found === null;
      if (found === null) td.setAttribute("aria-label", "nothing here"); else td.removeAttribute("aria-label");
    }));
    select();
    place();
  }

  function scale(now) {
    const { low, high } = parameter();
    const flat = now.flat(2).filter((one) => one !== null);
    const least = Math.min(0, ...flat);
    const most = Math.max(1, ...flat);
    range = [low ?? (least < 0 ? -round(-least) : 0), high ?? round(most)];
  }

  // A round number that is no less.
  function round(number) {
    const power = 10 ** Math.floor(Math.log10(number));
    return [1, 1.5, 2, 3, 5, 10].map((one) => one * power).find((one) => one >= number - 1e-9);
  }

  function select() {
    cells.forEach((row, r) => row.forEach((td, c) => {
      const on = chosen.has(key(r, c));
      if ((td.getAttribute("aria-selected") === "true") !== on) td.setAttribute("aria-selected", String(on));
      const here = r === active[0] && c === active[1];
      td.classList.toggle("active", here);
      if (td.tabIndex !== (here ? 0 : -1)) td.tabIndex = here ? 0 : -1;
    }));
  }

  function about() {
    const rows = [...new Set([...chosen].map((one) => parts(one)[0]))].sort((a, b) => a - b);
    const columns = [...new Set([...chosen].map((one) => parts(one)[1]))].sort((a, b) => a - b);
    const name = (row) => facts.shape.rows[row].label;
    const span = rows.length > 1 ? `${name(rows[0])} to ${name(rows.at(-1))}` : rows.length ? name(rows[0]) : "";
    const text = chosen.size ? `${columns.map((one) => facts.shape.columns[one]).join(", ")}: ${/^\d/.test(span) ? "layer" + (rows.length > 1 ? "s " : " ") : ""}${span}` : "No cell is selected.";
    if ($("chosen").textContent !== text) $("chosen").textContent = text;
    const now = rows.map((row) => middle(value(row, columns.find((column) => chosen.has(key(row, column))))));
    if (document.activeElement?.form !== form) {
      $("from").value = rows.length ? plain(now[0]) : "";
      $("to").value = rows.length ? plain(now.at(-1)) : "";
      $("bend").value = 0;
    }
    $("to").disabled = $("bend").disabled = rows.length < 2;
    $("from").disabled = $("set").disabled = !rows.length;
  }

  const plain = (number) => String(Math.round(number * 1e4) / 1e4);

  function options() {
    const { parameters, models } = facts.shape;
    fill($("parameter"), parameters.map((one) => [one.name, one.name]));
    const before = $("model").value;
    if (parameter().per_model) fill($("model"), [["", "all models"], ...models.map((name, i) => [String(i), name])]);
    else fill($("model"), [["", "the merge"]]);
    if (before === "" && layout === "" && models.length) $("model").value = parameter().per_model ? "0" : "";
    $("model").disabled = !parameter().per_model;
    $("about").textContent = parameter().help;
  }

  function fill(list, entries) {
    const now = JSON.stringify(entries);
    if (list.dataset.entries === now) return;
    list.dataset.entries = now;
    const before = list.value;
    list.replaceChildren(...entries.map(([name, text]) => new Option(text, name)));
    if (entries.some(([name]) => name === before)) list.value = before;
  }

  function show() {
    $("none").hidden = true;
    $("body").hidden = false;
    options();
    build();
    paint();
    about();
  }

  document.addEventListener("mergecore:planned", ({ detail }) => {
    if (!detail.ok) { $("body").classList.add("stale"); return; }
    $("body").classList.remove("stale");
    facts = detail.facts.grid;
    if (facts) { show(); return; }
    $("body").hidden = true;
    $("none").hidden = false;
    $("none").textContent = "This merge has no number that could differ from layer to layer.";
  });
  document.addEventListener("mergecore:text", ({ detail }) => {
    if (detail.text.trim() || !facts) return;
    facts = null;
    layout = "";
    $("body").hidden = true;
    $("none").hidden = false;
  });
  for (const name of ["parameter", "model"]) $(name).addEventListener("change", () => { bent = null; show(); });

  // ---- what is drawn ----

  const step = () => (parameter().whole ? 1 : (range[1] - range[0]) / 20);

  function bounded(number) {
    const { low, high, whole } = parameter();
    const kept = Math.max(low ?? -Infinity, Math.min(high ?? Infinity, number));
    return whole ? Math.round(kept) : kept;
  }

  // Where in a cell the pointer is, as a value.
  function pointed(td, x, fine) {
    const box = td.getBoundingClientRect();
    const share = Math.max(0, Math.min(1, (x - box.left) / box.width));
    const unit = fine && !parameter().whole ? step() / 5 : step();
    return bounded(Math.round((range[0] + share * (range[1] - range[0])) / unit) * unit);
  }

  const tidy = (number) => Number(number.toFixed(10));

  // A value for each row from one to another; `bend` 0 is a straight line.
  function gradient(from, to, columns, bend) {
    const [[r0, a], [r1, b]] = from[0] <= to[0] ? [from, to] : [to, from];
    const power = 2 ** ((from[0] <= to[0] ? bend : -bend) / 4);
    const found = [];
    for (let row = r0; row <= r1; row++) {
      const share = r1 > r0 ? ((row - r0) / (r1 - r0)) ** power : 1;
      for (const column of columns) if (value(row, column) !== null) found.push([row, column, bounded(tidy(a + (b - a) * share))]);
    }
    return found;
  }

  function preview(drawn) {
    paint(new Map(drawn.map(([row, column, number]) => [key(row, column), number])));
  }

  function keep(drawn) {
    const all = facts.values[parameter().name];
    for (const [row, column, number] of drawn) {
      for (const one of model() === null ? all : [all[model()]]) if (one[row][column] !== null) one[row][column] = number;
    }
    paint();
    about();
  }

  function draw(drawn) {
    if (!drawn.length) return;
    keep(drawn);
    send(drawn);
  }

  function send(drawn) {
    const asked = { shape: facts.shape, parameter: parameter().name, model: model(), cells: drawn };
    sending = sending.then(async () => {
      for (let tries = 0; tries < 5; tries++) {
        const version = mergecore.version;
        const answer = await mergecore.post("/grid/draw", { ...asked, text: mergecore.text() }).catch(() => null);
        if (!answer) { mergecore.say("The server does not answer."); return; }
        const said = await answer.json();
        if (version !== mergecore.version) continue;
        if (answer.ok) mergecore.replace(said.text);
        else mergecore.say(said.message);
        return;
      }
    });
  }

  // ---- by pointer ----

  let stroke = null;
  const mode = () => document.querySelector("input[name='grid-mode']:checked").value;
  const at = (td) => [Number(td.dataset.row), Number(td.dataset.column)];

  // The cell of a column at the height of the pointer.
  function over(column, y) {
    const found = cells.map((row) => row[column]).filter((td) => !td.classList.contains("nothing"));
    return found.reduce((best, td) => (distance(td, y) < distance(best, y) ? td : best), found[0]);
  }

  function distance(td, y) {
    const box = td.getBoundingClientRect();
    return y < box.top ? box.top - y : y > box.bottom ? y - box.bottom : 0;
  }

  function columnsOf(row, column) {
    if (!chosen.has(key(row, column))) return [column];
    return [...new Set([...chosen].map((one) => parts(one)[1]))];
  }

  body.addEventListener("pointerdown", (event) => {
    const td = event.target.closest("td");
    if (!td || td.classList.contains("nothing") || event.button || event.target.tagName === "INPUT") return;
    const [row, column] = at(td);
    if (mode() === "pick" || event.shiftKey) {
      stroke = { kind: "pick", start: event.shiftKey ? active : [row, column] };
      pick(stroke.start, [row, column], true);
    } else {
      const number = pointed(td, event.clientX, event.altKey);
      stroke = { kind: mode(), columns: columnsOf(row, column), column, start: [row, number], last: [row, number], drawn: new Map() };
      move(event);
      focus([row, column]);
    }
    body.setPointerCapture(event.pointerId);
    event.preventDefault();
  });

  function move(event) {
    const td = over(stroke.column ?? stroke.start[1], event.clientY);
    const number = pointed(td, event.clientX, event.altKey);
    const [row] = at(td);
    if (stroke.kind === "line") {
      stroke.last = [row, number];
      stroke.cells = row === stroke.start[0]
        ? stroke.columns.map((column) => [row, column, tidy(number)]).filter(([r, c]) => value(r, c) !== null)
        : gradient(stroke.start, stroke.last, stroke.columns, 0);
    } else {
      for (const one of gradient(stroke.last, [row, number], stroke.columns, 0)) stroke.drawn.set(key(one[0], one[1]), one);
      stroke.last = [row, number];
      stroke.cells = [...stroke.drawn.values()];
    }
    preview(stroke.cells);
    const [from, to] = stroke.kind === "line" ? [stroke.start, stroke.last] : [stroke.last, stroke.last];
    $("state").textContent = from[0] === to[0]
      ? `${facts.shape.rows[to[0]].label}: ${short(to[1])}`
      : `${facts.shape.rows[from[0]].label}: ${short(from[1])} → ${facts.shape.rows[to[0]].label}: ${short(to[1])}`;
  }

  body.addEventListener("pointermove", (event) => {
    if (!stroke) return;
    if (stroke.kind !== "pick") { move(event); return; }
    const td = document.elementFromPoint(event.clientX, event.clientY)?.closest("#grid-rows td");
    if (td) pick(stroke.start, at(td), true);
  });

  body.addEventListener("pointerup", () => {
    const done = stroke;
    stroke = null;
    $("state").textContent = "";
    if (!done || done.kind === "pick") return;
    bent = done.kind === "line" && Math.abs(done.last[0] - done.start[0]) > 1 ? { from: done.start, to: done.last, columns: done.columns, column: done.column, bend: 0 } : null;
    draw(done.cells);
  });
  body.addEventListener("pointercancel", () => { stroke = null; $("state").textContent = ""; paint(); });

  function modes() { $("scroll").classList.toggle("draws", mode() !== "pick"); }
  for (const one of document.querySelectorAll("input[name='grid-mode']")) one.addEventListener("change", modes);
  if (matchMedia("(pointer: coarse)").matches) document.querySelector("input[name='grid-mode'][value='pick']").checked = true;
  modes();

  // ---- the handle that bends a gradient ----

  function place() {
    handle.hidden = !bent;
    if (!bent) return;
    const row = Math.round((bent.from[0] + bent.to[0]) / 2);
    const td = cells[row][bent.column];
    const share = (middle(value(row, bent.column) ?? range[0]) - range[0]) / (range[1] - range[0]);
    handle.style.left = `${td.offsetLeft + Math.max(0, Math.min(1, share)) * td.offsetWidth}px`;
    handle.style.top = `${td.offsetTop + td.offsetHeight / 2}px`;
  }

  function bend(event) {
    const row = Math.round((bent.from[0] + bent.to[0]) / 2);
    const [a, b] = bent.from[0] <= bent.to[0] ? [bent.from[1], bent.to[1]] : [bent.to[1], bent.from[1]];
    const wanted = a === b ? 0.5 : Math.max(0.03, Math.min(0.97, (pointed(cells[row][bent.column], event.clientX, true) - a) / (b - a)));
    const [low, high] = [bent.from[0], bent.to[0]].sort((one, other) => one - other);
    const power = Math.log(wanted) / Math.log((row - low) / (high - low));
    bent.bend = Math.max(-10, Math.min(10, 4 * Math.log2(power))) * (bent.from[0] <= bent.to[0] ? 1 : -1);
    bent.cells = gradient(bent.from, bent.to, bent.columns, bent.bend);
    preview(bent.cells);
    handle.style.left = `${cells[row][bent.column].offsetLeft + ((bent.cells.find((one) => one[0] === row)[2] - range[0]) / (range[1] - range[0])) * cells[row][bent.column].offsetWidth}px`;
  }

  handle.addEventListener("pointerdown", (event) => { handle.setPointerCapture(event.pointerId); event.preventDefault(); bent.held = true; });
  handle.addEventListener("pointermove", (event) => { if (bent?.held) bend(event); });
  handle.addEventListener("pointerup", () => { if (bent?.held) { bent.held = false; if (bent.cells) draw(bent.cells); } });

  new ResizeObserver(() => { if (facts) place(); }).observe(table);

  // ---- by keyboard ----

  function focus([row, column], moved = true) {
    active = [row, column];
    if (!chosen.has(key(row, column))) chosen = new Set([key(row, column)]);
    select();
    about();
    if (moved) cells[row][column].focus({ preventScroll: true });
  }

  function pick(from, to, focused = false) {
    const rows = [from[0], to[0]].sort((a, b) => a - b);
    const columns = [from[1], to[1]].sort((a, b) => a - b);
    chosen = new Set();
    for (let r = rows[0]; r <= rows[1]; r++) for (let c = columns[0]; c <= columns[1]; c++) if (value(r, c) !== null) chosen.add(key(r, c));
    if (!chosen.has(key(...active))) active = chosen.size ? parts([...chosen][0]) : active;
    select();
    about();
    if (focused) cells[active[0]][active[1]].focus({ preventScroll: true });
  }

  // The next cell in a direction in which there is something.
  function next([row, column], [down, right]) {
    for (let r = row + down, c = column + right; cells[r]?.[c]; r += down, c += right) if (value(r, c) !== null) return [r, c];
    return [row, column];
  }

  let end = null; // the corner of the selection that Shift moves
  body.addEventListener("keydown", (event) => {
    if (event.target.tagName === "INPUT" || !event.target.closest("td")) return;
    const ways = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    const way = ways[event.key];
    const command = event.ctrlKey || event.metaKey;
    if (way && command && way[0]) raise(-way[0] * step());
    else if (way && event.shiftKey) {
      const corner = chosen.size > 1 && end ? end : active;
      end = next(corner, way);
      const fixed = active;
      pick(fixed, end);
      scrollTo(end);
    } else if (way) { end = null; chosen.clear(); focus(next(active, way)); scrollTo(active); }
    else if (event.key === "a" && command) pick([0, 0], [cells.length - 1, cells[0].length - 1]);
    else if (event.key === "Enter" || event.key === "F2") type("");
    else if (/^[\d.\-]$/.test(event.key) && !command && !event.altKey) type(event.key);
    else if (event.key === "Escape") { end = null; chosen.clear(); focus(active); }
    else if (event.key === "Home" || event.key === "End") {
      let to = active;
      for (let more = null; (more = next(to, [0, event.key === "Home" ? -1 : 1])) && more[1] !== to[1]; ) to = more;
      chosen.clear();
      focus(to);
    } else return;
    event.preventDefault();
  });

  function scrollTo([row, column]) {
    const [td, frame] = [cells[row][column], $("scroll")];
    const top = head.offsetHeight;
    if (td.offsetTop - top < frame.scrollTop) frame.scrollTop = td.offsetTop - top;
    const bottom = td.offsetTop + td.offsetHeight;
    if (bottom > frame.scrollTop + frame.clientHeight) frame.scrollTop = bottom - frame.clientHeight;
  }

  function raise(by) {
    bent = null;
    const unit = Math.abs(by);
    draw([...chosen].map(parts).map(([row, column]) => [row, column, bounded(tidy(Math.round((middle(value(row, column)) + by) / unit) * unit))]));
  }

  function type(text) {
    const td = cells[active[0]][active[1]];
    const input = document.createElement("input");
    input.inputMode = "decimal";
    input.value = text || plain(middle(value(...active)));
    input.setAttribute("aria-label", chosen.size > 1 ? `Value of ${chosen.size} cells` : "Value");
    td.append(input);
    input.focus({ preventScroll: true });
    if (!text) input.select();
    let over = false;
    const close = (keeps) => {
      if (over) return;
      over = true;
      const number = read(input.value);
      input.remove();
      if (keeps && number !== null) { bent = null; draw([...chosen].map(parts).map(([row, column]) => [row, column, number])); }
      else paint();
    };
    input.addEventListener("blur", () => close(true));
    input.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== "Escape") return;
      event.preventDefault();
      event.stopPropagation();
      close(event.key === "Enter");
      td.focus({ preventScroll: true });
    });
  }

  function read(text) {
    const number = Number(text.trim().replace(",", ".").replace("−", "-"));
    if (text.trim() && Number.isFinite(number)) return bounded(number);
    mergecore.say(`'${text}' is not a number.`);
    return null;
  }

  body.addEventListener("focusin", (event) => {
    const td = event.target.closest("td");
    if (td && event.target === td && !stroke) { active = at(td); if (!chosen.has(key(...active))) { chosen = new Set([key(...active)]); select(); about(); } }
  });

  // ---- the form below ----

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const [from, to] = [read($("from").value), $("to").disabled ? read($("from").value) : read($("to").value)];
    if (from === null || to === null || !chosen.size) return;
    const rows = [...chosen].map((one) => parts(one)[0]);
    const [low, high] = [Math.min(...rows), Math.max(...rows)];
    const columns = [...new Set([...chosen].map((one) => parts(one)[1]))];
    bent = high - low > 1 ? { from: [low, from], to: [high, to], columns, column: columns[0], bend: Number($("bend").value) } : null;
    const drawn = gradient([low, from], [high, to], columns, Number($("bend").value));
    draw(low === high ? drawn.map(([row, column]) => [row, column, from]) : drawn);
  });
  $("from").addEventListener("input", () => { if ($("to").disabled) $("to").value = $("from").value; });

  $("default").addEventListener("click", () => { bent = null; send([]); });
})();
