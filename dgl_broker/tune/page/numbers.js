// What passes, in numbers and tables: always beside what passes now.

import { $, fill, h, oneIn, plural, share, short } from "./dom.js";

function number(title, state, big, ...lines) {
  return h("article", { class: `number ${state}` }, h("h2", {}, title), h("div", { class: "big" }, ...big), ...lines.map((l) => h("p", {}, ...l)));
}

const small = (text) => h("small", {}, text);
const strong = (text) => h("b", {}, text);
const between = (lo, hi, as = short) => small(` ${as(lo)} – ${as(hi)}`);

function candidates(now, before, filter) {
  if (!now) return number("Candidates a night", "", ["unknown"], ["no real alerts in the tables"]);
  const budget = filter.max_candidates_per_night;
  const ok = budget === null ? "" : now.worst <= budget ? "ok" : "no";
  const worst = budget === null ? ["worst night ", strong(short(now.worst)), ", no budget is set"]
    : ["worst night ", h("b", { class: "verdict" }, short(now.worst)), ` of at most ${short(budget)}`, ok === "no" ? ": over budget" : ""];
  return number("Candidates a night", ok, [short(now.mean), between(now.lo, now.hi)], worst,
    [`${short(now.objects_mean)} objects; in force `, strong(before ? short(before.mean) : "–")]);
}

function completeness(now, before, filter) {
  if (!now) return number("Completeness", "", ["unknown"], ["no lensed supernovae in the tables"]);
  const floor = filter.completeness_floor;
  const ok = floor === null ? "" : now.value >= floor ? "ok" : "no";
  const words = floor === null ? ["no floor is set"]
    : [h("span", { class: "verdict" }, ok === "ok" ? "above" : "below"), ` the floor of ${short(floor)}`];
  return number("Completeness", ok, [share(now.value), between(now.lo, now.hi, share)], [...words, `; ${now.found} of ${now.n} objects`],
    ["in force ", strong(before ? share(before.value) : "–")]);
}

function purity(now, before) {
  if (!now) return number("Purity", "", ["unknown"], ["needs real alerts and lensed supernovae"]);
  const big = now.value === null ? [h("small", { title: "at least" }, "≥ "), oneIn(now.lo)] : [oneIn(now.value)];
  const old = before ? (before.value === null ? `at least ${oneIn(before.lo)}` : oneIn(before.value)) : "–";
  const known = now.value === null ? ["no real alert passes"] : [`between ${oneIn(now.lo)} and ${oneIn(now.hi)}`];
  return number(`Purity at prevalence ${short(now.prevalence)}`, "", big, known, ["in force ", strong(old)]);
}

function falsePositives(counts, before) {
  const known = counts.negatives;
  if (known) {
    const old = before.negatives;
    return number("Known negatives that pass", "", [short(known.passing), small(` of ${short(known.n, 6)}`)],
      [`false-positive rate ${short(known.fpr)} (${short(known.lo, 2)} – ${short(known.hi, 2)})`], ["in force ", strong(old ? short(old.passing) : "–")]);
  }
  const live = counts.stream;
  return number("Real alerts that pass", "", [live.passing ? oneIn(live.share) : "none"],
    [`${short(live.passing, 6)} of ${short(live.n, 7)}, at most ${short(live.hi, 2)}`], ["in force ", strong(oneIn(before.stream.share))]);
}

export function showNumbers(preview, filter) {
  const { proposed: now, in_force: before } = preview;
  fill($("numbers"), candidates(now.candidates, before.candidates, filter), completeness(now.completeness, before.completeness, filter),
    purity(now.purity, before.purity), falsePositives(now, before));
}

function cell(c) {
  if (!c.n) return h("td", { class: "n" }, "–");
  const range = `${c.found} of ${c.n}, 95 % between ${share(c.lo)} and ${share(c.hi)}`;
  return h("td", { class: "n", title: range }, share(c.value), h("br"), h("small", {}, `${c.found} of ${c.n}`),
    h("span", { class: "meter", "aria-hidden": "true" }, h("i", { style: `width:${(100 * c.value).toFixed(1)}%` })));
}

export function showCompleteness(found) {
  if (!found) {
    fill($("completeness"), h("p", { class: "note" }, "Completeness is unknown: there are no lensed supernovae in the tables."));
    return;
  }
  const head = h("tr", {}, h("th", { scope: "col" }, "class"), h("th", { scope: "col", class: "n" }, "any alert"),
    found.bins.map((b) => h("th", { scope: "col", class: "n" }, b)));
  const rows = found.rows.map((row) => h("tr", {}, h("th", { scope: "row" }, row.class), cell(row), row.by_detections.map(cell)));
  const caption = found.bins.length ? "Lensed objects found, and of those with an alert at so many detections" : "Lensed objects found";
  fill($("completeness"), h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Completeness by class and number of detections" },
    h("table", {}, h("caption", {}, caption), h("thead", {}, head), h("tbody", {}, rows))));
}

export function showConfusion(counts) {
  const lensed = counts.completeness;
  const known = counts.negatives;
  const row = (name, passes, fails) => h("tr", {}, h("th", { scope: "row" }, name), h("td", { class: "n" }, passes), h("td", { class: "n" }, fails));
  const rows = [];
  if (lensed) rows.push(row("lensed supernovae", short(lensed.found, 6), short(lensed.n - lensed.found, 6)));
  if (known) {
    rows.push(row("known negatives", short(known.passing, 6), short(known.n - known.passing, 6)));
    for (const kind of known.kinds.filter((k) => k.passing).slice(0, 5))
      rows.push(row(`– ${kind.kind.replaceAll("_", " ")}`, short(kind.passing, 6), short(kind.n - kind.passing, 6)));
  }
  rows.push(row("real alerts (not objects)", short(counts.stream.passing, 7), short(counts.stream.n - counts.stream.passing, 7)));
  const head = h("tr", {}, h("th", { scope: "col" }, ""), h("th", { scope: "col", class: "n" }, "pass"), h("th", { scope: "col", class: "n" }, "do not"));
  fill($("confusion"), h("table", {}, h("caption", {}, "What is known, and what the line makes of it (objects)"), h("thead", {}, head), h("tbody", {}, rows)));
}

export function alertName(row, filter) {
  return h("a", { href: `/alert/${encodeURIComponent(row.survey)}/${row.alert_id}?filter=${encodeURIComponent(filter)}`, target: "_blank", rel: "noopener",
    title: `${row.survey} alert ${row.alert_id}: stamps, light curve, criteria` }, row.object);
}

export function truthTag(row) {
  if (!row.truth) return null;
  return h("span", { class: `tag ${row.truth.includes("lensed SN") ? "lensed" : "negative"}`, title: row.truth }, row.truth);
}

function changeTable(rows, filter) {
  if (!rows.length) return h("p", { class: "note" }, "none");
  return h("table", {}, h("thead", {}, h("tr", {}, ["object", "score", "night", ""].map((t) => h("th", { scope: "col" }, t)))),
    h("tbody", {}, rows.slice(0, 10).map((row) => h("tr", {}, h("th", { scope: "row" }, alertName(row, filter)), h("td", {}, short(row.score, 4)),
      h("td", {}, row.night ?? "–"), h("td", {}, truthTag(row))))));
}

export function showChanges(preview) {
  for (const [side, words] of [["entering", "come in"], ["leaving", "go out"]]) {
    const c = preview.changes[side];
    const lensed = c.lensed ? `, ${plural(c.lensed, "lensed supernova", "lensed supernovae")}` : "";
    fill($(side), h("h3", {}, `${plural(c.alerts, "alert")} of ${plural(c.objects, "object")} ${words}${lensed}`), changeTable(c.rows, preview.filter));
  }
}
