// Ask models, and evaluate them: the merge in the editor, in memory, beside those that it is made of.
"use strict";

(() => {
  const MERGE = "";
  const $ = (id) => document.getElementById(id);
  const panels = ["ask", "evaluate"].filter((name) => $(`${name}-form`));
  let parents = [];
  let others = [];
  const checked = new Map(panels.map((name) => [name, new Map([[MERGE, true]])]));

  // ---- who is asked ----

  function offer() {
    const names = [...parents, ...others.filter((one) => !parents.includes(one) && !parents.includes(`./${one}`)).slice(0, 30)];
    for (const panel of panels) {
      const known = checked.get(panel);
      const now = JSON.stringify([parents, names, [...known]]);
      const list = $(`${panel}-who`);
      if (list.dataset.names === now) continue;
      list.dataset.names = now;
      list.replaceChildren(choice(panel, MERGE, "this merge, in memory"), ...names.map((name) => choice(panel, name, name)));
    }
  }

  function choice(panel, name, text) {
    const known = checked.get(panel);
    const label = document.createElement("label");
    const box = document.createElement("input");
    box.type = "checkbox";
    box.checked = known.get(name) ?? parents.includes(name);
    box.dataset.model = name;
    box.addEventListener("change", () => known.set(name, box.checked));
    label.append(box, text);
    return label;
  }

  function chosen(panel) {
    const names = [...document.querySelectorAll(`#${panel}-who input:checked`)].map((one) => one.dataset.model);
    return { text: mergecore.text(), merge: names.includes(MERGE), models: names.filter((one) => one !== MERGE), online: $("online").checked };
  }

  async function look() {
    const models = await got("/models");
    others = models.filter((one) => !one.adapter).map((one) => one.path);
    offer();
  }

  const got = (url) => mergecore.answered(fetch(url)).then((answer) => answer?.json() ?? []).catch(() => []);

  async function lookForData() {
    const data = await got("/evaluate/data");
    const list = $("evaluate-data");
    const now = JSON.stringify(data);
    $("evaluate-hint").hidden = data.length > 0;
    if (list.dataset.files === now) return;
    list.dataset.files = now;
    const before = list.value;
    list.replaceChildren(new Option("choose a file", ""), ...data.map((one) => new Option(`${one.path} – ${one.kind}`, one.path)));
    list.value = picked && data.some((one) => one.path === before) ? before : fitting(data);
  }

  // Evaluators that lie beside one of the models, or above all; those beside other models ask for other things.
  let picked = false;
  function fitting(data) {
    const plain = parents.map((one) => one.replace(/^\.\//, ""));
    const beside = (folder) => !folder || plain.some((one) => one.startsWith(folder));
    const found = data.filter((one) => one.kind === "evaluators" && beside(one.path.replace(/[^/]*$/, "")));
    return found[0]?.path ?? (data.length === 1 && data[0].kind !== "evaluators" ? data[0].path : "");
  }

  // What a config names as models, before anything is opened.
  function named(value, found = []) {
    for (const [key, one] of Object.entries(value && typeof value === "object" ? value : {})) {
      if ((key === "model" || key === "base_model") && typeof one === "string") found.push(one);
      else named(one, found);
    }
    return found;
  }

  document.addEventListener("mergecore:checked", ({ detail }) => {
    if (!detail.data) return;
    const made = new Set(detail.data.map((one) => one.name));
    beside([...new Set(detail.data.flatMap((one) => named(one)))].filter((one) => !made.has(one)));
  });
  document.addEventListener("mergecore:planned", ({ detail }) => {
    if (detail.plan) beside([...new Set(detail.plan.models.map((one) => one.reference))]);
  });

  function beside(names) {
    parents = names;
    offer();
    const list = $("evaluate-data");
    if (list && !picked) list.value = fitting(JSON.parse(list.dataset.files ?? "[]"));
  }

  document.body.addEventListener("made", look);
  offer();
  look();

  // ---- what comes of it ----

  const newest = { ask: 0, evaluate: 0 };

  async function follow(panel, number) {
    newest[panel] = number;
    while (newest[panel] === number) {
      const answer = await fetch(`/${panel}/${number}`).catch(() => null);
      if (newest[panel] !== number) return;
      if (answer?.ok) {
        htmx.swap({ target: $(`${panel}-result`), text: await answer.text(), swap: "innerMorph" });
        if (!$(`${panel}-result`).querySelector(".tried")?.dataset.live) return;
      } else if (answer?.status === 404) return;
      await new Promise((done) => setTimeout(done, 400));
    }
  }

  async function send(panel, asked) {
    const answer = await mergecore.answered(mergecore.post(`/${panel}`, { ...chosen(panel), ...asked }));
    if (!answer) return; // the page says why
    const said = await answer.json().catch(() => ({ message: "That cannot be asked." }));
    if (!answer.ok) { mergecore.say(said.message ?? "That cannot be asked."); return; }
    htmx.trigger(document.body, "runs");
    follow(panel, said.number);
  }

  $("ask-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const prompts = $("ask-prompts").value.split("\n").filter((one) => one.trim());
    if (!prompts.length) { mergecore.say("Write a prompt first."); $("ask-prompts").focus(); return; }
    send("ask", { prompts, tokens: Number($("ask-tokens").value) || 60, raw: $("ask-raw").checked });
  });
  $("ask-prompts").addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key === "Enter") { event.preventDefault(); event.stopPropagation(); $("ask-form").requestSubmit(); }
  });
  if ($("evaluate-form")) {
    for (const kind of ["focus", "pointerdown"]) $("evaluate-data").addEventListener(kind, lookForData);
    $("evaluate-data").addEventListener("change", () => { picked = Boolean($("evaluate-data").value); });
    $("evaluate-form").addEventListener("submit", (event) => {
      event.preventDefault();
      const limit = Number($("evaluate-limit").value) || null;
      send("evaluate", { data: $("evaluate-data").value, limit });
    });
    lookForData();
  }
})();
