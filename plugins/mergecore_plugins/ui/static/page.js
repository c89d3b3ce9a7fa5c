// The page: what is typed is checked at once and planned a moment later; what is asked for is run.
"use strict";

const mergecore = (() => {
  const $ = (id) => document.getElementById(id);
  const area = editor.area;
  const state = { version: 0, faults: [], planned: false, ok: false, opened: document.body.dataset.opened, away: "" };
  const tell = (name, detail) => document.dispatchEvent(new CustomEvent(`mergecore:${name}`, { detail }));

  // ---- asking the server ----

  async function post(url, value, signal) {
    return fetch(url, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(value),
      signal,
    });
  }

  async function answered(promise) {
    try {
      const answer = await promise;
      away(answer.status === 403 ? "anew" : "");
      return answer.status === 403 ? null : answer;
    } catch (error) {
      if (error.name !== "AbortError") away("lost");
      return null;
    }
  }

  // Said as long as it is so; once the server answers again, the page goes on by itself.
  const AWAY = {
    lost: "The server does not answer. Start `mergecore ui` again; what you write here stays.",
    anew: "The server was started anew. Open the address that it printed, here or in another tab; then this page goes on.",
  };
  function away(why) {
    const before = state.away;
    if (before === why) return;
    state.away = why;
    $("away").textContent = AWAY[why] ?? "";
    $("away").hidden = !why;
    verdict();
    if (why) return;
    say("The server answers again.");
    changed();
    for (const one of ["runs", "made"]) htmx.trigger(document.body, one);
  }

  async function listen() {
    if (state.away || document.visibilityState === "visible") await answered(fetch("/static/mark.svg", { method: "HEAD" }));
    setTimeout(listen, state.away ? 1500 : 5000);
  }

  let quiet;
  function say(text) {
    $("said").textContent = text;
    $("said").classList.add("shown");
    clearTimeout(quiet);
    quiet = setTimeout(() => $("said").classList.remove("shown"), 6000);
  }

  // ---- what is wrong ----

  function showFaults(found) {
    const faults = [...found].sort((a, b) => (a.line ?? 0) - (b.line ?? 0) || (a.column ?? 0) - (b.column ?? 0));
    state.faults = faults;
    editor.mark(faults);
    const rows = faults.map((fault) => {
      const row = document.createElement("li");
      if (fault.stale) row.className = "stale";
      const place = document.createElement(fault.line ? "button" : "span");
      place.className = "place";
      place.textContent = fault.line ? `line ${fault.line}` : fault.code;
      if (fault.line) {
        place.type = "button";
        place.addEventListener("click", () => editor.go(fault.line, fault.column ?? 1));
      }
      const code = document.createElement("span");
      code.className = "code";
      code.textContent = fault.line ? fault.code : "";
      const words = document.createElement("span");
      words.className = "what";
      words.textContent = fault.message;
      row.append(place, code, words);
      if (fault.hint) {
        const hint = document.createElement("span");
        hint.className = "hint";
        hint.textContent = fault.hint;
        row.append(hint);
      }
      return row;
    });
    $("faults").replaceChildren(...rows);
    verdict();
  }

  function verdict() {
    const count = state.faults.length;
    const text = !area.value.trim() ? ""
      : state.away && !state.planned ? "Not looked at: the server does not answer."
      : count ? `${count} thing${count > 1 ? "s" : ""} to mend`
      : state.planned ? "This can be merged." : "Nothing wrong so far; looking at the models …";
    if ($("verdict").textContent !== text) $("verdict").textContent = text;
    $("messages").dataset.state = !area.value.trim() ? "" : count ? "bad" : state.planned ? "good" : "";
    const may = state.planned && state.ok && !state.away;
    $("onward").hidden = !may;
    $("go").setAttribute("aria-disabled", String(!may));
    $("go-help").textContent = may || !area.value.trim() ? "" : state.away ? "The server does not answer." : count ? "Mend the config first." : "A moment …";
  }

  // ---- checking and planning ----

  let checking = false;
  let again = false;
  let waiting;
  let planning;

  async function check() {
    if (checking) { again = true; return; }
    checking = true;
    const version = state.version;
    const text = area.value;
    const answer = text.trim() ? await answered(post("/check", { text, name: fileName() })) : null;
    if (answer?.ok && version === state.version) {
      const { faults, data } = await answer.json();
      const known = new Set(faults.map((one) => one.message));
      const older = state.faults.filter((one) => one.late && !known.has(one.message)).map((one) => ({ ...one, stale: true }));
      showFaults([...faults, ...older]);
      tell("checked", { text, version, faults, data });
    } else if (!text.trim()) {
      showFaults([]);
      tell("checked", { text, version, faults: [], data: null });
    }
    checking = false;
    if (again) { again = false; check(); }
  }

  async function plan() {
    planning?.abort();
    planning = new AbortController();
    const version = state.version;
    const text = area.value;
    if (!text.trim()) { planState(""); return; }
    planState("looking at the models …");
    const answer = await answered(post("/plan", { text, name: fileName(), online: $("online").checked }, planning.signal));
    if (!answer && state.away) planState("");
    if (!answer?.ok || answer.status === 204 || version !== state.version) return;
    const made = await answer.json();
    state.planned = true;
    state.ok = made.ok;
    if (made.ok) htmx.swap({ target: $("plan-body"), text: made.html, swap: "innerMorph" });
    $("plan-body").classList.toggle("stale", !made.ok);
    planState(made.ok ? "" : "of the last config that could be merged");
    if (!made.ok && !$("plan-body").querySelector("dl")) planState("");
    showFaults(made.faults.map((one) => ({ ...one, late: true })));
    tell("planned", { text, version, ok: made.ok, faults: made.faults, plan: made.plan, facts: made.facts });
  }

  function planState(text) { $("plan-state").textContent = text; }

  function changed() {
    state.version++;
    state.planned = state.ok = false;
    $("empty").hidden = Boolean(area.value);
    verdict();
    command();
    tell("text", { text: area.value, version: state.version });
    check();
    clearTimeout(waiting);
    waiting = setTimeout(plan, 250);
    keep();
  }

  // The server keeps the newest text of all tabs; each tab keeps its own, so that a reload does not mix them up.
  const OWN = `mergecore-draft:${document.querySelector(".where").title}`;
  const draft = () => ({ text: area.value, name: $("name").value, out: $("out").value, opened: state.opened ?? "" });
  let keeping;
  function keep() {
    clearTimeout(keeping);
    keeping = setTimeout(() => { keepHere(); answered(post("/draft", draft())); }, 400);
  }

  function keepHere() {
    try { sessionStorage.setItem(OWN, JSON.stringify(draft())); } catch { /* too long, or not allowed */ }
  }

  function kept() {
    let own = null;
    try { own = JSON.parse(sessionStorage.getItem(OWN)); } catch { /* not allowed */ }
    if (!own) return;
    for (const id of ["name", "out"]) $(id).value = own[id];
    state.opened = own.opened;
    editor.replace(own.text);
  }

  // ---- files ----

  function fileName() { return $("name").value.trim() || "merge.yml"; }

  async function open(name) {
    const answer = await answered(fetch(`/file?name=${encodeURIComponent(name)}`));
    if (answer) await take(await answer.json(), answer.ok);
  }

  async function take(found, ok) {
    if (!ok) { say(found.message); return; }
    editor.replace(found.text);
    $("name").value = found.name || unused(found.out.replace(/\/+$/, "").replace(/^.*\//, ""));
    if (found.out) $("out").value = found.out;
    else $("out").value = `merged/${found.name.replace(/^.*\//, "").replace(/\.ya?ml$/, "")}`;
    state.opened = found.opened ?? "";
    area.setSelectionRange(0, 0);
    area.scrollTop = 0;
    say(found.message || `Opened ${found.name || `the config of ${found.out}`}.`);
    changed();
  }

  // A name that no config below the folder has, so that a new one does not take the place of another.
  function unused(stem) {
    const taken = new Set([...$("open").options].map((one) => one.value));
    let name = `${stem}.yml`;
    for (let number = 2; taken.has(name); number++) name = `${stem}-${number}.yml`;
    return name;
  }

  function fresh(text, stem) {
    editor.replace(text);
    $("name").value = unused(stem);
    $("out").value = `merged/${$("name").value.replace(/\.yml$/, "")}`;
    state.opened = "";
    if ($("name").value !== `${stem}.yml`) say(`${stem}.yml is there already, so this config is called ${$("name").value}.`);
    changed();
  }

  async function save() {
    const text = area.value;
    if (!$("name").value.trim()) $("name").value = fileName();
    const answer = await answered(post("/file", { text, name: fileName(), opened: state.opened ?? "" }));
    if (!answer) return false;
    const said = await answer.json();
    if (answer.status === 409) state.opened = said.opened;
    say(answer.ok ? `Saved ${said.name}.` : said.message);
    if (!answer.ok) return false;
    state.opened = said.opened;
    if (![...$("open").options].some((one) => one.value === said.name)) $("open").append(new Option(said.name, said.name));
    command();
    keep();
    return true;
  }

  async function edit(edits) {
    for (let tries = 0; tries < 5; tries++) {
      const version = state.version;
      const answer = await answered(post("/edit", { text: area.value, edits }));
      if (!answer) return false;
      const said = await answer.json();
      if (version !== state.version) continue;
      if (answer.ok) { editor.replace(said.text); return true; }
      say(said.message);
      return false;
    }
    return false;
  }

  // ---- running ----

  const quoted = (word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);

  function options() {
    const form = new FormData($("run"));
    return {
      out: $("out").value.trim(),
      overwrite: form.has("overwrite"),
      online: form.has("online"),
      threads: form.get("threads"),
      "max-memory": form.get("max-memory"),
    };
  }

  function command() {
    const given = options();
    const words = ["mergecore", "merge", fileName(), given.out || "merged/mine"];
    for (const name of ["threads", "max-memory"]) if (given[name]) words.push(`--${name}=${given[name]}`);
    if (given.overwrite) words.push("--overwrite");
    const network = given.online ? "" : " --offline";
    const lines = [`mergecore plan ${quoted(fileName())}`, words.map(quoted).join(" ")].map((one) => one + network);
    if ($("command").textContent !== lines.join("\n")) $("command").textContent = lines.join("\n");
  }

  async function run() {
    if (state.away) { say(AWAY[state.away]); return; }
    if (!state.planned || !state.ok) { say(state.planned || state.faults.length ? "Mend the config first." : "A moment: the config is still looked at."); return; }
    if (!(await save())) return;
    const answer = await answered(post("/runs", { text: area.value, ...options() }));
    if (!answer) return;
    const said = await answer.json();
    say(answer.ok ? "The merge is in the queue." : said.message);
    htmx.trigger(document.body, "runs");
  }

  // ---- what the page hears ----

  area.addEventListener("input", changed);
  for (const id of ["name", "out"]) $(id).addEventListener("input", () => { command(); keep(); });
  $("run").addEventListener("input", command);
  $("run").addEventListener("submit", (event) => { event.preventDefault(); run(); });
  $("online").addEventListener("change", () => { state.planned = false; verdict(); plan(); });
  $("save").addEventListener("click", save);
  $("undo").addEventListener("click", editor.undo);
  $("redo").addEventListener("click", editor.redo);
  $("open").addEventListener("change", () => { if ($("open").value) open($("open").value); $("open").value = ""; });
  document.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key === "s") { event.preventDefault(); save(); }
    if ((event.ctrlKey || event.metaKey) && event.key === "Enter") { event.preventDefault(); run(); }
  });
  document.addEventListener("click", async (event) => {
    const of = event.target.closest("[data-copy], [data-open], [data-reopen], [data-report], [data-focus]");
    if (!of) return;
    if (of.dataset.focus) { event.preventDefault(); onTo($(of.dataset.focus)); }
    if (of.dataset.copy) copy($(of.dataset.copy).textContent);
    if (of.dataset.open) open(of.dataset.open);
    if (of.dataset.report) {
      const answer = await answered(post("/history/report", { path: of.dataset.report }));
      if (answer) say(answer.ok ? "The report is in the queue." : (await answer.json()).message);
      htmx.trigger(document.body, "runs");
    }
    if (of.dataset.reopen) {
      const answer = await answered(fetch(of.dataset.reopen));
      if (answer) { await take(await answer.json(), answer.ok); $("config").scrollIntoView({ block: "nearest" }); }
    }
  });

  // To a part of the page, with its field ready to be typed into.
  function onTo(field) {
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    field.closest("section, form").scrollIntoView({ block: "nearest", behavior: still ? "instant" : "smooth" });
    field.focus({ preventScroll: true });
  }

  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
      say("Copied.");
    } catch {
      say("The browser does not let the page copy; select the text and press Ctrl-C.");
    }
  }

  const states = new Map();
  document.body.addEventListener("htmx:after:swap", () => {
    let [made, over] = [false, false];
    for (const row of document.querySelectorAll(".run-row")) {
      const [before, now] = [states.get(row.id), row.dataset.state];
      if (before && before !== now) {
        say(`${row.dataset.title}: ${now}`);
        made ||= now === "done";
        over ||= now === "done" || now === "failed";
      }
      states.set(row.id, now);
    }
    if (made) htmx.trigger(document.body, "made");
    if (over && !state.away) plan(); // the time that a merge takes is known better now, or a model is no longer what it was
    now(document.querySelector('.run-row[data-out][data-state="running"]') ?? document.querySelector(".run-row[data-out]"));
  });

  // The newest merge in a line beside the button that began it, and in the title of the window.
  const title = document.title;
  function now(row) {
    const { title: name, state: is, share, words } = row?.dataset ?? {};
    $("now-bar").value = share ? Number(share) : 0;
    $("now-bar").className = is ?? "";
    $("now-words").textContent = row ? `${name}: ${is === "running" && words ? words : is + (words ? `, ${words}` : "")}` : "No run yet.";
    if (row) $("now-words").href = `#${row.id}`;
    $("next").hidden = is !== "done";
    if ($("next-report")) $("next-report").dataset.report = row?.dataset.out ?? "";
    document.title = is === "running" ? `${share ? `${Math.floor(share * 100)} % – ` : ""}${name}` : title;
  }

  const themes = ["", "light", "dark"];
  $("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const next = themes[(themes.indexOf(root.dataset.theme ?? "") + 1) % 3];
    if (next) root.dataset.theme = next; else delete root.dataset.theme;
    try { localStorage.setItem("mergecore-theme", next); } catch { /* private windows keep nothing */ }
    $("theme").setAttribute("aria-label", `Colours: ${next || "as the system has them"}`);
    say(`Colours: ${next || "as the system has them"}`);
  });

  document.body.addEventListener("htmx:error", () => answered(fetch("/static/mark.svg", { method: "HEAD" })));
  addEventListener("pagehide", keepHere);
  kept();
  queueMicrotask(changed);
  setTimeout(listen, 5000);
  return {
    text: () => area.value, get version() { return state.version; },
    replace: editor.replace, fresh, edit, post, say, open, run, answered,
  };
})();
window.mergecore = mergecore;
