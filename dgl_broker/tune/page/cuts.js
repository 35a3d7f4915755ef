// Pre-cuts: each with its limits to be moved, what it costs and what it saves.

import { $, fill, h, plural, short } from "./dom.js";

// A filter's `require` is data: a limit is a place in it, and moving it makes a copy with that place changed.
function changed(require, path, value) {
  const copy = structuredClone(require);
  let at = copy;
  for (const key of path.slice(0, -1)) at = at[key];
  at[path.at(-1)] = value;
  return copy;
}

function tests(name, body) {
  if (body.any) return body.any.flatMap((option, i) => Object.entries(option).map(([fact, test]) => ({ fact, test, path: [name, "any", i, fact] })));
  return [{ fact: body.fact ?? name, test: body, path: [name] }];
}

function limits({ fact, test, path }, facts, state, several) {
  const known = facts.find((f) => f.fact === fact) ?? { unit: "", low: null, high: null };
  const out = [];
  for (const [key, words] of [["min", "at least"], ["max", "at most"]]) {
    if (test[key] === undefined) continue;
    const label = `${several ? `${fact} ` : ""}${words}`;
    const attributes = { type: "number", step: "any", value: String(test[key]), min: known.low, max: known.high, "aria-label": `${path[0]}: ${label}`, "data-path": [...path, key].join("/") };
    const take = (event) => event.target.value !== "" && Number.isFinite(event.target.valueAsNumber) && state.take(changed(state.require, [...path, key], event.target.valueAsNumber));
    const box = h("input", { ...attributes, disabled: !state.allowed, on: { change: take } });
    const slider = known.low !== null && known.high !== null && known.high - known.low <= 400
      ? h("input", { type: "range", min: known.low, max: known.high, step: (known.high - known.low) / 200, value: test[key], "aria-label": `${path[0]}: ${label}, slider`, disabled: !state.allowed,
        on: { input: (event) => { box.value = String(Number(event.target.valueAsNumber.toPrecision(4))); take({ target: box }); } } }) : null;
    out.push(h("span", {}, label, box, known.unit, slider));
  }
  const fixed = test.equals !== undefined ? [test.equals] : test.in;
  if (fixed) out.push(h("span", {}, `${several ? `${fact} ` : ""}is ${fixed.map((v) => (v === true ? "yes" : v === false ? "no" : v)).join(" or ")}`));
  return out;
}

function criterion(c, state, cost) {
  const body = state.require[c.name];
  const original = state.inForce[c.name];
  const on = h("input", { type: "checkbox", checked: body !== undefined, disabled: !state.allowed, "aria-label": `use ${c.name}`,
    on: { change: (event) => state.take(event.target.checked ? restored(state, c.name) : without(state.require, c.name)) } });
  const shown = body ?? original;
  const parts = tests(c.name, shown);
  const controls = body === undefined ? [h("span", { class: "off" }, c.words)] : parts.map((t, i) => [i ? h("span", { class: "quiet" }, t.path[2] === parts[i - 1].path[2] ? "and" : "or") : null, limits(t, c.facts, state, parts.length > 1 || t.fact !== c.name)]);
  const rule = shown.unknown === "fail" ? "unknown fails" : "unknown passes";
  const is = JSON.stringify(body) !== JSON.stringify(original);
  const known = state.allowed && cost && body !== undefined;
  return h("tr", { class: is ? "changed" : null, "data-cut": c.name },
    h("th", { scope: "row" }, h("label", {}, on, ` ${c.name.replaceAll("_", " ")}`), c.why ? h("details", {}, h("summary", {}, "why"), h("p", { class: "why" }, c.why)) : null),
    h("td", {}, h("div", { class: "controls" }, controls, h("span", { class: "quiet" }, rule))),
    h("td", { class: "n" }, known ? short(cost.lost) : "–"),
    h("td", { class: "n" }, known && cost.saved_per_night !== null ? short(cost.saved_per_night) : "–"),
    h("td", { class: "n" }, known ? short(cost.saved_negatives) : "–"),
    h("td", { class: "n" }, known && cost.stops_alone !== null ? `${short(100 * cost.stops_alone, 2)} %` : "–"));
}

function without(require, name) {
  return Object.fromEntries(Object.entries(require).filter(([key]) => key !== name));
}

// In the filter's own order, so that the reasons of refusals stay in order.
function restored(state, name) {
  return Object.fromEntries(Object.keys(state.inForce).filter((key) => key === name || state.require[key] !== undefined).map((key) => [key, state.require[key] ?? state.inForce[key]]));
}

export function showCuts(filter, state, preview) {
  const focused = document.activeElement?.closest?.("#cuts") ? document.activeElement.getAttribute("aria-label") : null;
  if (focused?.endsWith("slider") && $("cuts").dataset.filter === `${filter.name} ${filter.version}`) {
    costs(preview, state); // under a moving slider the table stays as it is
    return;
  }
  $("cuts").dataset.filter = `${filter.name} ${filter.version}`;
  const costOf = Object.fromEntries((preview?.precuts ?? []).map((c) => [c.criterion, c]));
  const heads = ["", "asks", "lost supernovae", "kept away a night", "known negatives", "stops alone"];
  const titles = [null, null, "lensed objects that pass without it and not with it", "real alerts a night that it alone keeps from being candidates",
    "known negatives (objects) that it alone keeps away", "share of all real alerts that it alone keeps from the networks"];
  const head = h("tr", {}, heads.map((t, i) => h("th", { scope: "col", class: i > 1 && i < 6 ? "n" : null, title: titles[i] }, t)));
  fill($("cuts"), filter.criteria.length === 0 ? h("p", { class: "note" }, "This filter has no pre-cuts.")
    : h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Pre-cuts" }, h("table", { class: "cuts" }, h("thead", {}, head), h("tbody", {}, filter.criteria.map((c) => criterion(c, state, costOf[c.name]))))));
  if (focused) [...$("cuts").querySelectorAll("input")].find((node) => node.getAttribute("aria-label") === focused)?.focus();
  $("cuts-back").hidden = JSON.stringify(state.require) === JSON.stringify(state.inForce);
}

function costs(preview, state) {
  $("cuts-back").hidden = JSON.stringify(state.require) === JSON.stringify(state.inForce);
  for (const cost of preview.precuts) {
    const row = $("cuts").querySelector(`tr[data-cut="${cost.criterion}"]`);
    if (!row) continue; // the filter's own survey is no pre-cut that one moves
    row.classList.toggle("changed", JSON.stringify(state.require[cost.criterion]) !== JSON.stringify(state.inForce[cost.criterion]));
    const cells = row.querySelectorAll("td.n");
    cells[0].textContent = short(cost.lost);
    cells[1].textContent = cost.saved_per_night === null ? "–" : short(cost.saved_per_night);
    cells[2].textContent = short(cost.saved_negatives);
    cells[3].textContent = cost.stops_alone === null ? "–" : `${short(100 * cost.stops_alone, 2)} %`;
  }
}

export function cutsNote(state, curves) {
  const lost = curves?.never_scored ?? [];
  const n = lost.reduce((sum, r) => sum + r.lost, 0);
  const words = state.allowed ? "What each does alone, with all others and the line as they are."
    : "These tables come from a replay that kept the pre-cuts, so what they refused has no score: replay with --ungated to see what each costs and saves, and to change it.";
  $("cuts-note").textContent = n ? `${words} ${plural(n, "lensed object")} never got a score: ${lost.slice(0, 3).map((r) => `${r.reason} (${r.lost})`).join(", ")}.` : words;
}
