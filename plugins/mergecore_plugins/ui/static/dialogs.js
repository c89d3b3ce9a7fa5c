// The dialogs: a new config from a method, and a model to add; and the choices above the editor.
"use strict";

(() => {
  const $ = (id) => document.getElementById(id);

  for (const id of ["new", "begin"]) $(id).addEventListener("click", () => $("new-dialog").showModal());

  $("method-filter").addEventListener("input", () => {
    const words = $("method-filter").value.toLowerCase();
    for (const group of $("method-list").querySelectorAll("fieldset")) {
      let any = false;
      const whole = group.querySelector("legend").textContent.toLowerCase().includes(words);
      for (const one of group.querySelectorAll("label")) {
        one.hidden = !whole && !one.textContent.toLowerCase().includes(words);
        any ||= !one.hidden;
      }
      group.hidden = !any;
    }
  });

  document.addEventListener("click", (event) => {
    const { method } = event.target.closest("[data-method]:not(form)")?.dataset ?? {};
    if (!method) return;
    const choice = $("method-list").querySelector(`input[value="${CSS.escape(method)}"]`);
    choice.click();
    choice.focus();
    choice.closest("label").scrollIntoView({ block: "nearest" });
  });

  document.addEventListener("submit", async (event) => {
    if (event.target.id !== "compose") return;
    event.preventDefault();
    const form = new FormData(event.target);
    const more = String(form.get("more") ?? "").split("\n").map((one) => one.trim()).filter(Boolean);
    const values = {};
    for (const [name, value] of form) if (name.startsWith("p-")) values[name.slice(2)] = value;
    const models = [...form.getAll("models"), ...more].filter((one) => !event.target.dataset.apart || one !== form.get("base"));
    const fault = $("compose-fault");
    fault.textContent = models.length ? "" : "Choose at least one model.";
    if (!models.length) return;
    const answer = await mergecore.answered(mergecore.post("/new", { method: event.target.dataset.method, base: form.get("base") ?? "", models, values }));
    if (!answer) { fault.textContent = "The server does not answer; start `mergecore ui` again."; return; }
    const said = await answer.json();
    if (!answer.ok) { fault.textContent = said.message; return; }
    $("new-dialog").close();
    mergecore.fresh(said.text, event.target.dataset.method);
    $("text").focus();
  });

  document.addEventListener("invalid", (event) => {
    if (event.target.form?.id !== "compose") return;
    event.preventDefault(); // said beside the button, as all else that is missing
    const first = event.target.form.querySelector(":invalid");
    const fault = $("compose-fault");
    fault.textContent = first.id === "base" ? "Choose a base model: the one that the others were tuned from." : `Give ${first.name.slice(2)} a value.`;
    first.focus();
  }, true);

  $("add-model").addEventListener("click", async () => {
    const answer = await mergecore.answered(fetch("/models"));
    const found = answer?.ok ? await answer.json() : [];
    $("models-list").replaceChildren(...found.map((one) => {
      const label = document.createElement("label");
      label.className = "choice";
      const box = document.createElement("input");
      box.type = "checkbox";
      box.value = one.path;
      const words = document.createElement("span");
      words.textContent = one.path + (one.made ? " (merged here)" : "") + (one.adapter ? " (adapter)" : "");
      label.append(box, words);
      return label;
    }));
    $("models-dialog").showModal();
  });

  $("models-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const chosen = [...$("models-list").querySelectorAll("input:checked")].map((one) => one.value);
    const other = $("other-model").value.trim();
    const edits = [...chosen, ...(other ? [other] : [])].map((model) => ({ op: "append", path: ["models"], value: { model }, document: 0 }));
    $("models-dialog").close(); // a text behind an open dialog cannot be typed into
    if (edits.length && await mergecore.edit(edits)) $("other-model").value = "";
  });

  const choices = {
    dtype: (value) => (value ? [{ op: "set", path: ["dtype"], value, document: 0 }] : [{ op: "remove", path: ["dtype"], document: 0 }]),
    tokenizer: (value) => (value ? [{ op: "set", path: ["tokenizer"], value: { source: value }, document: 0 }] : [{ op: "remove", path: ["tokenizer"], document: 0 }]),
  };
  for (const [id, edits] of Object.entries(choices)) $(id).addEventListener("change", () => mergecore.edit(edits($(id).value)));

  // The choices show what the text says.
  document.addEventListener("mergecore:checked", ({ detail }) => {
    const first = detail.data?.[0];
    if (!first) return;
    show($("dtype"), typeof first.dtype === "string" ? first.dtype : "");
    const source = first.tokenizer?.source ?? first.tokenizer?.strategy ?? first.tokenizer_source ?? "";
    show($("tokenizer"), typeof source === "string" ? source : "");
  });

  function show(select, value) {
    if (document.activeElement === select) return;
    if (value && ![...select.options].some((one) => one.value === value)) select.append(new Option(value, value));
    select.value = value;
  }
})();
