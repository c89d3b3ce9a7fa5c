// The editor: a textarea that stays one, with line numbers, marks and colours painted behind it.
"use strict";

const editor = (() => {
  const area = document.getElementById("text");
  const gutter = document.querySelector("#editor .gutter");
  const paint = document.querySelector("#editor .paint");
  const PLAIN = 200_000; // a text that is longer is not coloured
  const TOKENS = /(#.*$)|("(?:[^"\\]|\\.)*"|'(?:[^']|'')*')|([\w./@-]+)(?=:(?:\s|$))|(?<=[\s[{,:]|^)(-?\d[\d._]*(?:e[-+]?\d+)?|true|false|null|~)(?=[\s,\]}]|$)/gi;
  const KINDS = ["comment", "string", "key", "value"];
  let lines = [];
  let marks = new Map();

  function painted(line) {
    const row = document.createElement("div");
    let at = 0;
    if (area.value.length < PLAIN) {
      for (const found of line.matchAll(TOKENS)) {
        if (found.index > at) row.append(line.slice(at, found.index));
        const word = document.createElement("span");
        word.className = KINDS[found.slice(1).findIndex((one) => one !== undefined)];
        word.textContent = found[0];
        row.append(word);
        at = found.index + found[0].length;
      }
    }
    row.append(line.slice(at) + "\n");
    return row;
  }

  // Only lines that changed are made anew, so that a keystroke costs the same in a long text.
  function repaint() {
    const now = area.value.split("\n");
    let start = 0;
    while (start < now.length && start < lines.length && now[start] === lines[start]) start++;
    let end = 0;
    while (end < now.length - start && end < lines.length - start && now.at(-1 - end) === lines.at(-1 - end)) end++;
    for (let i = lines.length - end; i > start; i--) paint.children[i - 1].remove();
    const before = paint.children[start] ?? null;
    for (const line of now.slice(start, now.length - end)) paint.insertBefore(painted(line), before);
    while (gutter.children.length > now.length) gutter.lastChild.remove();
    while (gutter.children.length < now.length) {
      const number = document.createElement("div");
      number.textContent = String(gutter.children.length + 1);
      gutter.append(number);
    }
    lines = now;
    mark();
    scroll();
  }

  function mark(faults) {
    if (faults) marks = new Map(faults.filter((one) => one.line).map((one) => [one.line, one.stale]));
    for (const [parent, name] of [[gutter, "bad"], [paint, "bad"]]) {
      for (const one of parent.querySelectorAll(`:scope > .${name}`)) one.classList.remove(name);
      for (const line of marks.keys()) parent.children[line - 1]?.classList.add(name);
    }
  }

  function scroll() {
    paint.style.transform = `translate(${-area.scrollLeft}px, ${-area.scrollTop}px)`;
    gutter.scrollTop = area.scrollTop;
  }

  // A few letters are typed as by the user, so that the caret stays in sight; a browser takes minutes for many lines.
  function type(start, end, text) {
    if (document.activeElement === area && text && text.length < 200) {
      area.setSelectionRange(start, end);
      if (document.execCommand("insertText", false, text)) return;
    }
    area.setRangeText(text, start, end, "end");
    area.dispatchEvent(new InputEvent("input", { bubbles: true }));
  }

  // What was before, and what was taken back: typing in one go is one step, and so is what a button did.
  const STEPS = 400;
  const TYPED = ["insertText", "deleteContentBackward", "deleteContentForward"];
  const past = [];
  const future = [];
  let last = shot();
  let step = { typed: false, time: 0 };
  let restoring = false;

  function shot() { return { text: area.value, from: area.selectionStart, to: area.selectionEnd }; }

  function remember(event) {
    if (restoring) return;
    const now = { typed: TYPED.includes(event.inputType), time: performance.now() };
    if (!(now.typed && step.typed && now.time - step.time < 800 && past.length)) past.push(last);
    if (past.length > STEPS) past.shift();
    future.length = 0;
    step = now;
    last = shot();
  }

  function restore(from, into) {
    if (!from.length) return;
    into.push(last);
    last = from.pop();
    step = { typed: false, time: 0 };
    area.value = last.text;
    area.setSelectionRange(last.from, last.to);
    restoring = true;
    area.dispatchEvent(new InputEvent("input", { bubbles: true }));
    restoring = false;
  }

  const undo = () => restore(past, future);
  const redo = () => restore(future, past);

  function replace(text) {
    const old = area.value;
    if (old === text) return;
    const [from, to] = [area.selectionStart, area.selectionEnd];
    const [top, left] = [area.scrollTop, area.scrollLeft];
    let start = 0;
    while (start < old.length && start < text.length && old[start] === text[start]) start++;
    let end = 0;
    while (end < old.length - start && end < text.length - start && old.at(-1 - end) === text.at(-1 - end)) end++;
    type(start, old.length - end, text.slice(start, text.length - end));
    const moved = (at) => (at <= start ? at : Math.max(start, at + text.length - old.length));
    area.setSelectionRange(moved(from), moved(to));
    [area.scrollTop, area.scrollLeft] = [top, left];
  }

  function go(line, column = 1) {
    const start = lines.slice(0, line - 1).reduce((sum, one) => sum + one.length + 1, 0) + column - 1;
    area.focus();
    area.setSelectionRange(start, start);
    const height = area.scrollHeight / Math.max(lines.length, 1);
    area.scrollTop = Math.max(0, (line - 4) * height);
  }

  const lineStart = (at) => area.value.lastIndexOf("\n", at - 1) + 1;

  function indent(less) {
    const [from, to] = [area.selectionStart, area.selectionEnd];
    if (from === to && !less) {
      type(from, to, " ".repeat(2 - ((from - lineStart(from)) % 2)));
      return;
    }
    const start = lineStart(from);
    const block = area.value.slice(start, to);
    const changed = block.replace(/^/gm, "  ");
    const text = less ? block.replace(/^ {1,2}/gm, "") : changed;
    if (text === block) return;
    type(start, to, text);
    area.setSelectionRange(from === to ? Math.max(start, from - 2) : start, start + text.length);
    if (from === to) area.setSelectionRange(Math.max(start, from - 2), Math.max(start, from - 2));
  }

  function newline() {
    const at = area.selectionStart;
    const line = area.value.slice(lineStart(at), at);
    const spaces = /^ */.exec(line)[0] + (/^\s*- /.test(line) ? "  " : "") + (/:\s*$/.test(line) ? "  " : "");
    type(at, area.selectionEnd, `\n${spaces}`);
  }

  let leaving = false;
  area.addEventListener("keydown", (event) => {
    const letter = (event.ctrlKey || event.metaKey) && !event.altKey ? event.key.toLowerCase() : "";
    if (letter === "z" || letter === "y") {
      event.preventDefault();
      if (letter === "y" || event.shiftKey) redo(); else undo();
    } else if (event.key === "Escape") leaving = true;
    else if (event.key === "Tab" && leaving) leaving = false;
    else if (event.key === "Tab" && !event.ctrlKey && !event.altKey && !event.metaKey) {
      event.preventDefault();
      indent(event.shiftKey);
    } else if (event.key === "Enter" && !event.ctrlKey && !event.metaKey && !event.isComposing) {
      event.preventDefault();
      newline();
    } else if (event.key !== "Shift") leaving = false;
  });
  area.addEventListener("blur", () => { leaving = false; });
  area.addEventListener("scroll", scroll, { passive: true });
  area.addEventListener("beforeinput", (event) => {
    if (event.inputType !== "historyUndo" && event.inputType !== "historyRedo") return;
    event.preventDefault();
    if (event.inputType === "historyUndo") undo(); else redo();
  });
  area.addEventListener("input", (event) => { remember(event); repaint(); });
  repaint();

  return {
    area, replace, mark, go, undo, redo,
  };
})();
