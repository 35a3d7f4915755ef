// The alerts just above and just below the line.

import { $, fill, h, scoreText, svg } from "./dom.js";
import { alertName, truthTag } from "./numbers.js";

function stamp(kind, stamps, width) {
  const one = stamps?.[kind];
  if (!one || one.why) return h("div", { class: "none" }, `${kind}: ${one?.why ?? "none"}`);
  return h("img", { src: one.uri, alt: `${kind}, ${width} arcsec wide, north up`, title: `${kind}, ${width}″`, loading: "lazy" });
}

function card(row, filter, range) {
  const known = [row.band, row.n_detections && `${row.n_detections} det.`].filter(Boolean).join(", ");
  return h("li", {},
    row.why ? h("div", { class: "none", style: "aspect-ratio:2.1", title: row.why }, row.why)
      : h("div", { class: "stamps" }, stamp("template", row.stamps, row.width_arcsec), stamp("difference", row.stamps, row.width_arcsec)),
    row.light_curve ? svg(row.light_curve) : null,
    h("div", { class: "name" }, alertName(row, filter), h("b", {}, scoreText(row.score, range))),
    h("p", {}, [known, row.night].filter(Boolean).join(" · ")), truthTag(row));
}

export function showCards(near, preview, range) {
  for (const side of ["above", "below"]) {
    const rows = near[side];
    fill($(side), rows.length ? rows.map((row) => card(row, preview.filter, range)) : h("li", { class: "empty" }, "none"));
  }
  const without = [...near.above, ...near.below].filter((row) => row.why);
  $("line-note").textContent = without.length ? `${without.length} without picture: ${without[0].why}` : "template, difference and light curve; a name opens the alert";
  $("line-words").textContent = `the line: ${scoreText(preview.threshold, range)}`;
}

export function showNight(list, filter, range) {
  if (!list) {
    fill($("night-list"));
    return;
  }
  const marks = { new: "comes in", kept: "passes now too", gone: "goes out" };
  const rows = list.objects.map((o) => h("tr", {}, h("th", { scope: "row" }, alertName(o, filter)), h("td", { class: "n" }, scoreText(o.score, range)),
    h("td", { class: "n" }, String(o.alerts)), h("td", {}, marks[o.change]), h("td", {}, truthTag(o))));
  const more = list.n_objects > list.objects.length ? `, the best ${list.objects.length} of ${list.n_objects}` : "";
  fill($("night-list"), h("table", {}, h("caption", {}, `Objects of ${list.night}${more}`),
    h("thead", {}, h("tr", {}, ["object", "best score", "alerts", "", ""].map((t, i) => h("th", { scope: "col", class: i === 1 || i === 2 ? "n" : null }, t)))),
    h("tbody", {}, rows.length ? rows : h("tr", {}, h("td", { colspan: "5" }, "no candidate")))));
}
