// Headings of tables become buttons that sort their rows, by the numbers that cells begin with, else by words.
"use strict";
const worth = { k: 1e3, kB: 1e3, M: 1e6, MB: 1e6, B: 1e9, GB: 1e9, T: 1e12, TB: 1e12 };
const number = (text) => {
  const near = /^1-([\d.e-]+)$/.exec(text);
  if (near) return 1 - Number(near[1]);
  const [, value, unit] = /^([-+]?[\d.]+(?:e[-+]?\d+)?)\s*([a-zA-Z]*)/.exec(text.replace(/,/g, "")) || [];
  return value === undefined ? NaN : Number(value) * (worth[unit] || 1);
};
for (const table of document.querySelectorAll("table")) {
  const headings = [...table.tHead.rows[0].cells];
  if (table.tBodies[0].rows.length < 2) continue;
  for (const [column, heading] of headings.entries()) {
    if (!heading.textContent) continue;
    const button = document.createElement("button");
    button.textContent = heading.textContent;
    heading.replaceChildren(button);
    button.onclick = () => {
      const down = heading.getAttribute("aria-sort") === "ascending";
      for (const one of headings) one.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows];
      const order = (a, b) => {
        const [x, y] = [a, b].map((row) => row.cells[column].textContent);
        const [m, n] = [number(x), number(y)];
        if (isNaN(m) || isNaN(n)) return isNaN(m) - isNaN(n) || x.localeCompare(y, "en", { numeric: true });
        return m - n;
      };
      rows.sort((a, b) => (down ? order(b, a) : order(a, b)));
      table.tBodies[0].append(...rows);
    };
  }
}
