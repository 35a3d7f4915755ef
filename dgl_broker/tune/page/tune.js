// The desk in the browser: one proposal, and everything that is shown of it.

import { $, fill, h, plural, scoreText, share, short } from "./dom.js";
import { Refused, get, latest, post } from "./api.js";
import { scaleOf } from "./scale.js";
import { drawHistogram, drawNights, drawTrade, markHistogram, markTrade, placeUnder, slidePlace } from "./charts.js";
import { showChanges, showCompleteness, showConfusion, showNumbers } from "./numbers.js";
import { showCards, showNight } from "./cards.js";
import { cutsNote, showCuts } from "./cuts.js";
import { beginDecision, change, say, showDecision, showHistory, showWorkers } from "./decision.js";

const SETTLED_MS = 300; // after which the slider is taken to rest: pictures are fetched, and the numbers are spoken
const WATCH_MS = 5000;

const desk = { state: null, filter: null, bundle: null, scale: null, ends: null, curves: null, preview: null, asked: null, require: null, night: null };

const plotly = new Promise((done) => {
  if (window.Plotly) done();
  else addEventListener("load", () => done());
});

function failed(error) {
  const text = error instanceof Refused ? error.reasons.join(" ") : `The server does not answer: ${error.message}`;
  $("failed").textContent = text;
  $("failed").hidden = false;
}

const well = () => {
  $("failed").hidden = true;
};

function proposal(more = {}) {
  const changedCuts = JSON.stringify(desk.require) !== JSON.stringify(desk.filter.require);
  return { filter: desk.filter.name, bundle: desk.bundle, ...(changedCuts ? { require: desk.require } : {}), ...more };
}

const asThreshold = (threshold) => ({ threshold });

// What is shown while the answer is on its way: the line itself must follow the hand.
function moveLine(threshold) {
  const place = desk.scale.to(threshold);
  const old = desk.scale.to(desk.filter.threshold);
  // Scores of another bundle are other numbers: the threshold in force has no place among them.
  markHistogram(desk.ends, place, old, desk.bundle === (desk.filter.bundle_sha256 ?? desk.bundle));
  $("mark-words").textContent = scoreText(threshold, desk.filter.score_range);
  $("mark-words").dataset.score = String(threshold);
  $("score").value = String(place);
  if ($("metric").value === "threshold" && document.activeElement !== $("value")) $("value").value = String(threshold);
}

let settle = null;

const ask = latest(async (what) => {
  try {
    const preview = await post("/api/v1/preview", proposal(what));
    well();
    desk.preview = preview;
    desk.asked = asThreshold(preview.threshold);
    preview.cutsChanged = countChanged();
    show(preview, what);
  } catch (error) {
    if (what.operating_point && error instanceof Refused) $("point").textContent = error.reasons.join(" ");
    else failed(error);
  }
});

function countChanged() {
  const names = new Set([...Object.keys(desk.require), ...Object.keys(desk.filter.require)]);
  return [...names].filter((n) => JSON.stringify(desk.require[n]) !== JSON.stringify(desk.filter.require[n])).length;
}

function show(preview, what) {
  const { filter } = desk;
  if (what.operating_point) moveLine(preview.threshold); // else it has moved with the hand
  $("point").textContent = preview.operating_point ? `${scoreText(preview.threshold, filter.score_range)}, for ${$("metric").selectedOptions[0].textContent} ${$("value").value}; measured on ${preview.operating_point.of}` : "";
  showNumbers(preview, filter);
  showDecision(preview, filter, desk.state.read_only);
  showConfusion(preview.proposed);
  showCompleteness(preview.proposed.completeness);
  showChanges(preview);
  showCuts(filter, cutState(), preview);
  const nightly = preview.proposed.candidates;
  $("score").setAttribute("aria-valuetext", `${scoreText(preview.threshold, filter.score_range)}${nightly ? `, ${short(nightly.worst)} candidates in the worst night` : ""}`);
  document.body.dataset.threshold = String(preview.threshold);
  plotly.then(() => {
    markTrade(desk.curves, preview, desk.scale);
    drawNights(preview, filter, desk.night, chooseNight);
  });
  clearTimeout(settle);
  settle = setTimeout(settled, SETTLED_MS);
}

let nearest = null;

async function settled() {
  const { preview, filter } = desk;
  const { candidates, completeness } = preview.proposed;
  const allowed = preview.refused.length ? `refused: ${preview.refused.join("; ")}` : "allowed by the guards";
  $("spoken").textContent = `Threshold ${scoreText(preview.threshold, filter.score_range)}: ${candidates ? `${short(candidates.mean)} candidates a night` : "candidates unknown"}, ` +
    `${completeness ? `completeness ${share(completeness.value)}` : "completeness unknown"}; ${allowed}`;
  nearest?.abort();
  nearest = new AbortController();
  try {
    const near = await post("/api/v1/nearest", proposal(desk.asked), { signal: nearest.signal });
    showCards(near, preview, filter.score_range);
    await listNight();
  } catch (error) {
    if (error.name !== "AbortError") failed(error);
  }
}

// A threshold from the slider, the plots or the box; the line moves at once.
function take(threshold) {
  const [low, high] = desk.filter.score_range;
  const kept = Math.min(Math.max(threshold, low), high);
  if ($("metric").value !== "threshold") chooseMetric("threshold");
  $("point").textContent = "";
  moveLine(kept);
  ask(asThreshold(kept));
}

function cutState() {
  return {
    require: desk.require, inForce: desk.filter.require, allowed: desk.state.alerts?.ungated ?? false,
    take: (require) => {
      desk.require = require;
      redraw();
    },
  };
}

const redraw = latest(async () => {
  try {
    desk.curves = await post("/api/v1/curves", proposal());
    well();
    await plotly;
    desk.ends = drawHistogram(desk.curves, desk.scale, desk.filter.score_range);
    Object.assign($("score"), { min: desk.ends.low, max: desk.ends.high, step: desk.scale.step });
    drawTrade(desk.curves, desk.filter, desk.scale, desk.filter.score_range, take);
    cutsNote(cutState(), desk.curves);
    await ask(desk.asked);
    moveLine(desk.asked.threshold);
  } catch (error) {
    failed(error);
  }
});

// Where an operating point begins: at what the line gives now, so that choosing one does not move it; a rate at the least that
// these alerts can show.
function startOf(metric) {
  const { candidates, completeness, negatives, stream } = desk.preview.proposed;
  if (metric === "candidates_per_night") return candidates ? Math.ceil(candidates.worst) : 50;
  if (metric === "completeness") return completeness ? Math.floor(100 * completeness.value) / 100 : 0.5;
  const least = 3 / Math.max(negatives?.n ?? 0, stream.n, 1);
  return Number((10 ** Math.ceil(Math.log10(least))).toPrecision(1));
}

function chooseMetric(metric) {
  $("metric").value = metric;
  const steps = { candidates_per_night: 1, completeness: 0.01, fpr: "any", threshold: "any" };
  $("value").step = steps[metric];
  $("value").value = String(metric === "threshold" ? desk.asked.threshold : startOf(metric));
  $("value").setAttribute("aria-label", $("metric").selectedOptions[0].textContent);
}

function takeValue() {
  const value = $("value").valueAsNumber;
  const metric = $("metric").value;
  if (!Number.isFinite(value)) return;
  if (metric === "threshold") take(value);
  else ask({ operating_point: { metric, value } });
}

function chooseNight(night) {
  desk.night = night === desk.night ? null : night;
  $("night").value = desk.night ?? "";
  drawNights(desk.preview, desk.filter, desk.night, chooseNight);
  listNight().catch(failed);
}

async function listNight() {
  if (!desk.night) {
    showNight(null);
    return;
  }
  showNight(await post(`/api/v1/night?night=${encodeURIComponent(desk.night)}`, proposal(desk.asked)), desk.filter.name, desk.filter.score_range);
}

async function refreshFilter() {
  desk.state = await get("/api/v1/filters");
  const now = desk.state.filters.find((f) => f.name === desk.filter.name);
  const sameCuts = JSON.stringify(desk.require) === JSON.stringify(desk.filter.require);
  desk.filter = now;
  if (sameCuts) desk.require = now.require;
  await showSide();
}

async function showSide() {
  const name = encodeURIComponent(desk.filter.name);
  const [history, workers] = await Promise.all([get(`/api/v1/history?filter=${name}`), get(`/api/v1/workers?filter=${name}`)]);
  showHistory(history, desk.filter, desk.state.read_only, rollBack);
  showWorkers(workers, desk.filter);
}

async function afterChange(done) {
  await refreshFilter();
  if (done) {
    desk.require = desk.filter.require;
    desk.asked = asThreshold(desk.filter.threshold);
    $("reason").value = "";
  }
  await redraw();
}

function rollBack(version) {
  const why = $("reason").value.trim() || `back from version ${desk.filter.version} to ${version}`;
  change("/api/v1/rollback", { filter: desk.filter.name, to_version: version, expected_version: desk.filter.version, reason: why }, { after: afterChange });
}

function decide(event) {
  event.preventDefault();
  const button = $("activate");
  if (button.getAttribute("aria-disabled") === "true") {
    if (desk.preview?.refused.length && desk.preview.changed) say(`Refused: ${desk.preview.refused.join("\n")}`, "no");
    return;
  }
  const body = { ...proposal(desk.asked), expected_version: desk.filter.version, reason: $("reason").value.trim() };
  if (!body.reason) {
    say("Say why: it goes into the audit log.", "no");
    $("reason").focus();
    return;
  }
  if ($("metric").value !== "threshold" && desk.preview.operating_point) {
    delete body.threshold;
    body.operating_point = { metric: $("metric").value, value: $("value").valueAsNumber };
  }
  change("/api/v1/activate", body, { after: afterChange, focus: button });
}

function begin(name) {
  desk.filter = desk.state.filters.find((f) => f.name === name);
  desk.require = desk.filter.require;
  desk.scale = scaleOf(desk.filter.score_range);
  desk.asked = asThreshold(desk.filter.threshold);
  desk.night = null;
  const own = desk.state.bundles.find((b) => b.sha256 === desk.filter.bundle_sha256);
  desk.bundle = (own ?? desk.state.bundles.find((b) => !b.shadow) ?? desk.state.bundles[0])?.sha256 ?? null;
  $("bundle").value = desk.bundle ?? "";
  const nights = desk.state.alerts?.nights ?? [];
  fill($("night"), h("option", { value: "" }, "none chosen"), nights.map((n) => h("option", { value: n }, n)));
  $("nights-note").textContent = `${plural(nights.length, "night")}${desk.state.alerts?.sampled < 1 ? `, scaled up from a sample of ${desk.state.alerts.sampled}` : ""}; bars at the line, dashes in force`;
  chooseMetric("threshold");
  $("fill").hidden = desk.filter.max_candidates_per_night === null || !nights.length;
  showSide().catch(failed);
  return redraw();
}

function themes() {
  const order = { auto: ["dark", "◑ dark"], dark: ["light", "○ light"], light: ["auto", "◐ auto"] };
  const name = { auto: "as the screen", dark: "dark", light: "light" };
  const set = (theme) => {
    document.documentElement.dataset.theme = theme;
    $("theme").textContent = { auto: "◐ auto", dark: "◑ dark", light: "○ light" }[theme];
    $("theme").setAttribute("aria-label", `Colours: ${name[theme]}`);
  };
  set(document.documentElement.dataset.theme);
  $("theme").addEventListener("click", () => {
    const next = order[document.documentElement.dataset.theme][0];
    try {
      localStorage.setItem("dgl-theme", next);
    } catch {
      // not kept, then
    }
    set(next);
    redraw();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => redraw());
}

function wire() {
  $("score").addEventListener("input", (event) => take(desk.scale.from(event.target.valueAsNumber)));
  $("score").addEventListener("keydown", (event) => {
    const page = { PageUp: 1, PageDown: -1 }[event.key];
    if (!page) return;
    event.preventDefault(); // a tenth of the scale, as browsers have it, is too far
    take(desk.scale.from(event.target.valueAsNumber + page * desk.scale.page));
  });
  Object.assign($("score").style, { left: `${slidePlace.left}px`, width: `calc(100% - ${slidePlace.left + slidePlace.right}px)` });
  $("over").addEventListener("pointerdown", (event) => {
    $("over").setPointerCapture(event.pointerId);
    take(desk.scale.from(placeUnder(event, desk.ends)));
  });
  $("over").addEventListener("pointermove", (event) => {
    if ($("over").hasPointerCapture(event.pointerId)) take(desk.scale.from(placeUnder(event, desk.ends)));
  });
  $("metric").addEventListener("change", (event) => {
    chooseMetric(event.target.value);
    takeValue();
  });
  $("value").addEventListener("change", takeValue);
  $("fill").addEventListener("click", () => {
    chooseMetric("candidates_per_night");
    $("value").value = String(desk.filter.max_candidates_per_night);
    takeValue();
  });
  $("back").addEventListener("click", () => take(desk.filter.threshold));
  $("cuts-back").addEventListener("click", () => cutState().take(desk.filter.require));
  $("night").addEventListener("change", (event) => {
    desk.night = null;
    chooseNight(event.target.value || null);
  });
  $("filter").addEventListener("change", (event) => begin(event.target.value));
  $("bundle").addEventListener("change", (event) => {
    desk.bundle = event.target.value;
    redraw();
  });
  $("decide").addEventListener("submit", decide);
}

// Someone else may change the filter meanwhile: the page says so before it is in the way.
async function watch() {
  try {
    const now = await get(`/api/v1/workers?filter=${encodeURIComponent(desk.filter.name)}`);
    if (now.version !== desk.filter.version) {
      const was = desk.filter.version;
      await refreshFilter();
      say(`Version ${desk.filter.version} came into force; before it was ${was}.`, "wait");
      await redraw();
    } else showWorkers(now, desk.filter);
  } catch (error) {
    failed(error);
  }
}

async function main() {
  themes();
  try {
    desk.state = await get("/api/v1/filters");
  } catch (error) {
    failed(error);
    return;
  }
  const { state } = desk;
  fill($("filter"), state.filters.map((f) => h("option", { value: f.name }, f.name)));
  fill($("bundle"), state.bundles.map((b) => h("option", { value: b.sha256 }, `${b.id} · ${b.sha256.slice(0, 8)}${b.shadow ? " · shadow" : ""}`)));
  $("missing-card").hidden = !state.missing.length;
  fill($("missing"), state.missing.map((m) => h("li", {}, m)));
  wire();
  beginDecision(state);
  await begin(state.filters[0].name);
  document.body.dataset.ready = "true";
  window.watching = setInterval(watch, WATCH_MS);
}

main();
