// Draws the lines of charts with uPlot, of the numbers beside the static picture, which is left for paper.
"use strict";
{
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const whole = [1, 2, 5].flatMap((one) => [one, one * 10, one * 100, one * 1000]).sort((a, b) => a - b);
  const drawn = [];
  for (const chart of document.querySelectorAll(".chart")) {
    const place = chart.querySelector(".live");
    const { axes, data, lines } = JSON.parse(place.dataset.plot);
    const axis = (label) => ({
      label,
      stroke: () => colour("--soft"),
      grid: { stroke: () => colour("--line"), width: 1 },
      ticks: { stroke: () => colour("--line"), width: 1 },
    });
    const series = lines.map((one) => ({
      label: one.name,
      stroke: () => colour(one.marks ? "--other" : "--mark"),
      width: one.marks ? 0 : 2,
      dash: one.dash,
      spanGaps: !one.marks,
      points: { show: one.marks, size: 7, fill: () => colour("--other") },
    }));
    place.hidden = false;
    place.setAttribute("role", "group");
    chart.classList.add("drawn");
    const size = () => ({ width: Math.min(720, chart.clientWidth || 360), height: 320 });
    const plot = new uPlot(
      { ...size(), scales: { x: { time: false } }, axes: axes.map(axis).map((one, i) => (i ? one : { ...one, incrs: whole })), series: [{ label: axes[0] }, ...series] },
      data,
      place,
    );
    drawn.push([plot, size]);
  }
  window.addEventListener("resize", () => drawn.forEach(([plot, size]) => plot.setSize(size())));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawn.forEach(([plot]) => plot.redraw()));
}
