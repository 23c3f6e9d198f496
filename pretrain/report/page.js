// Under the pointer: a line at the nearest step, and the value of every curve there.
"use strict";
const SVG = "http://www.w3.org/2000/svg";
const nearest = (steps, step) => {
  let low = 0, high = steps.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (steps[middle] < step) low = middle + 1; else high = middle;
  }
  return low > 0 && step - steps[low - 1] < steps[low] - step ? low - 1 : low;
};
for (const figure of document.querySelectorAll("figure")) {
  const data = figure.querySelector("script");
  if (data === null) continue;
  const plot = JSON.parse(data.textContent), svg = figure.querySelector("svg");
  const line = svg.appendChild(document.createElementNS(SVG, "line"));
  const told = figure.querySelector("figcaption").appendChild(document.createElement("output"));
  line.setAttribute("class", "pointer on");
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect(), width = svg.viewBox.baseVal.width;
    const x = (event.clientX - box.left) / box.width * width;
    const step = (x - plot.left) / (plot.right - plot.left) * plot.last_step;
    const found = plot.curves.map((curve) => [curve, nearest(curve.steps, step)]);
    const at = found[0][0].steps[found[0][1]];
    const place = plot.left + at / plot.last_step * (plot.right - plot.left);
    for (const [name, value] of [["x1", place], ["x2", place], ["y1", plot.top], ["y2", plot.bottom]]) line.setAttribute(name, value);
    told.textContent = `step ${at.toLocaleString("en")}: ` +
      found.map(([curve, index]) => `${curve.label} ${curve.values[index]}`).join(", ");
  });
  svg.addEventListener("pointerleave", () => { told.textContent = ""; line.setAttribute("y2", plot.top); });
}
