// The three plots. They are drawn when the alerts or the pre-cuts change; the line that moves is a mark laid over them.

import { $, colour, scoreText, short } from "./dom.js";

const MARGIN = { l: 46, r: 12, t: 8, b: 34 };
const FONT = { family: "inherit", size: 11.5 };
const NONE_A_NIGHT = 0.5; // where zero stands on a logarithmic axis

function layout(more) {
  return {
    margin: MARGIN,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { ...FONT, color: colour("--soft") },
    showlegend: false,
    dragmode: false,
    hoverlabel: { bgcolor: colour("--card"), bordercolor: colour("--rule"), font: { ...FONT, color: colour("--ink") } },
    ...more,
  };
}

function axis(title, more = {}) {
  return {
    title: { text: title, font: { ...FONT, color: colour("--soft") }, standoff: 4 },
    gridcolor: colour("--grid"),
    linecolor: colour("--faint"),
    zeroline: false,
    fixedrange: true,
    ...more,
  };
}

const CONFIG = { displayModeBar: false, responsive: true, doubleClick: false };

// Powers of ten, and what stands for none.
function decades(most) {
  const vals = [NONE_A_NIGHT];
  const text = ["0"];
  for (let power = 1; power <= most * 10; power *= 10) {
    vals.push(power);
    text.push(short(power, 6));
  }
  return { tickvals: vals, ticktext: text };
}

// Few alerts in many bins are a comb: bins are joined until they are few enough.
function joined(curves) {
  const n = [...curves.live, ...curves.injected, ...curves.negatives].reduce((a, b) => a + b, 0);
  const by = n < 2000 ? 4 : n < 30000 ? 2 : 1;
  const sums = (counts) => Array.from({ length: counts.length / by }, (_, i) => counts.slice(i * by, (i + 1) * by).reduce((a, b) => a + b, 0));
  return { edges: curves.edges.filter((_, i) => i % by === 0), live: sums(curves.live), injected: sums(curves.injected), negatives: sums(curves.negatives), score: curves.score };
}

export function drawHistogram(given, scale, range) {
  const curves = joined(given);
  const edges = curves.edges.map(scale.to);
  const centres = edges.slice(1).map((edge, i) => (edge + edges[i]) / 2);
  const line = (counts, name, dash, ink) => ({
    x: centres, y: counts.map((n) => (n ? n : 0.3)), name, type: "scatter", mode: "lines",
    line: { shape: "hvh", color: ink, width: 2, dash }, hoverinfo: "skip",
  });
  const traces = [{
    x: centres, y: curves.live.map((n) => (n ? n : null)), type: "bar", name: "real alerts",
    marker: { color: colour("--live-fill"), line: { color: colour("--live"), width: 0.4 } }, hoverinfo: "skip",
  }];
  const labels = [["real alerts", "--live"]];
  if (curves.negatives.some((n) => n)) {
    traces.push(line(curves.negatives, "known negatives", "dot", colour("--negative")));
    labels.push(["known negatives (dotted)", "--negative"]);
  }
  if (curves.injected.some((n) => n)) {
    traces.push(line(curves.injected, "lensed supernovae", "solid", colour("--lensed")));
    labels.push(["lensed supernovae (solid)", "--lensed"]);
  }
  const most = Math.max(1, ...curves.live, ...curves.injected, ...curves.negatives);
  const words = labels.map(([text, ink]) => `<span style="color:${colour(ink)}">■ ${text}</span>`).join("   ");
  const ticks = scale.ticks ? { tickvals: scale.ticks.vals, ticktext: scale.ticks.text } : {};
  window.Plotly.react("histogram", traces, layout({
    bargap: 0,
    margin: { ...MARGIN, t: 24 },
    xaxis: axis(curves.score.replaceAll("_", " "), { range: [edges[0], edges.at(-1)], ...ticks }),
    yaxis: axis("alerts", { type: "log", range: [Math.log10(0.6), Math.log10(most * 1.6)], dtick: 1 }),
    annotations: [{ text: words, xref: "paper", yref: "paper", x: 0, y: 1, xanchor: "left", yanchor: "bottom", yshift: 4, showarrow: false, font: FONT }],
  }), { ...CONFIG, staticPlot: true });
  const total = (counts) => counts.reduce((a, b) => a + b, 0);
  $("histogram").setAttribute("aria-label",
    `Histogram of ${curves.score} from ${scoreText(curves.edges[0], range)} to ${scoreText(curves.edges.at(-1), range)}: ` +
    `${total(curves.live)} real alerts, ${total(curves.injected)} of lensed supernovae, ${total(curves.negatives)} of known negatives`);
  return { low: edges[0], high: edges.at(-1) };
}

// The line, and where it stands in force; both in places of the scale.
export function markHistogram(ends, place, inForce, sameBundle) {
  const left = (p) => `calc(${MARGIN.l}px + (100% - ${MARGIN.l + MARGIN.r}px) * ${((p - ends.low) / (ends.high - ends.low)).toFixed(5)})`;
  const put = (id, p) => {
    $(id).hidden = p < ends.low || p > ends.high;
    $(id).style.left = left(p);
  };
  put("mark", place);
  put("mark-force", inForce);
  $("mark-force").hidden ||= !sameBundle || Math.abs(inForce - place) < 1e-9;
  $("mark-pass").style.left = left(Math.min(Math.max(place, ends.low), ends.high));
  $("mark-pass").style.right = `${MARGIN.r}px`;
}

export const slidePlace = { left: MARGIN.l - 8, right: MARGIN.r - 8 };

// A place on the histogram under a pointer, or null beside it.
export function placeUnder(event, ends) {
  const box = $("histogram").getBoundingClientRect();
  const at = (event.clientX - box.left - MARGIN.l) / (box.width - MARGIN.l - MARGIN.r);
  return ends.low + Math.min(Math.max(at, 0), 1) * (ends.high - ends.low);
}

function tradeMode(curves) {
  if (curves.worst && curves.completeness) return "both";
  return curves.worst ? "nightly" : curves.completeness ? "found" : "none";
}

const nightly = (n) => Math.max(n, NONE_A_NIGHT);

export function drawTrade(curves, filter, scale, range, choose) {
  const mode = tradeMode(curves);
  if (mode === "none") return;
  const places = curves.edges.map(scale.to);
  const x = mode === "both" ? curves.worst.map(nightly) : places;
  const y = mode === "nightly" ? curves.worst.map(nightly) : curves.completeness;
  const budget = filter.max_candidates_per_night;
  const floor = filter.completeness_floor;
  const most = curves.worst ? Math.max(10, ...curves.worst, budget || 1) : 1;
  const logarithmic = (title) => axis(title, { type: "log", range: [Math.log10(0.4), Math.log10(most * 1.5)], ...decades(most) });
  const xaxis = mode === "both" ? logarithmic("candidates in the worst night")
    : axis(curves.score.replaceAll("_", " "), scale.ticks ? { tickvals: scale.ticks.vals, ticktext: scale.ticks.text } : {});
  const yaxis = mode === "nightly" ? logarithmic("candidates in the worst night") : axis("completeness", { range: [-0.03, 1.03] });
  const shapes = [];
  const edge = { line: { color: colour("--good"), width: 1.2, dash: "dash" } };
  if (mode === "both") {
    const right = budget === null ? most * 1.5 : nightly(budget);
    shapes.push({ type: "rect", x0: 0.4, x1: right, y0: floor ?? 0, y1: 1, fillcolor: colour("--good"), opacity: 0.11, line: { width: 0 }, layer: "below" });
    if (budget !== null) shapes.push({ type: "line", x0: right, x1: right, y0: 0, y1: 1, ...edge });
    if (floor !== null) shapes.push({ type: "line", xref: "paper", x0: 0, x1: 1, y0: floor, y1: floor, ...edge });
  } else {
    const limit = mode === "nightly" ? budget : floor;
    if (limit !== null) shapes.push({ type: "line", xref: "paper", x0: 0, x1: 1, y0: limit, y1: limit, ...edge });
  }
  const text = curves.edges.map((e, i) => `at ${scoreText(e, range)}` +
    (curves.worst ? `<br>${short(curves.worst[i])} in the worst night` : "") +
    (curves.completeness ? `<br>completeness ${curves.completeness[i].toFixed(3)}` : ""));
  const traces = [
    { x, y, text, type: "scatter", mode: "lines+markers", line: { color: colour("--live"), width: 1.6 }, marker: { size: 3.5, color: colour("--live") }, hovertemplate: "%{text}<extra></extra>" },
    { x: [null], y: [null], type: "scatter", mode: "markers", marker: { size: 11, symbol: "diamond-open", color: colour("--accent"), line: { width: 2 } }, hovertemplate: "in force<extra></extra>" },
    { x: [null], y: [null], type: "scatter", mode: "markers", marker: { size: 12, color: colour("--here") }, hovertemplate: "the line<extra></extra>" },
  ];
  window.Plotly.react("trade", traces, layout({ xaxis, yaxis, shapes, hovermode: "closest" }), CONFIG);
  const node = $("trade");
  node.removeAllListeners?.("plotly_click");
  node.on("plotly_click", (event) => {
    const point = event.points.find((p) => p.curveNumber === 0);
    if (point) choose(curves.edges[point.pointNumber]);
  });
}

export function markTrade(curves, preview, scale) {
  const mode = tradeMode(curves);
  if (mode === "none" || !$("trade").data) return;
  const at = (counts, threshold) => {
    const worst = counts.candidates ? nightly(counts.candidates.worst) : null;
    const found = counts.completeness ? counts.completeness.value : null;
    if (mode === "both") return [worst, found];
    return [scale.to(threshold), mode === "nightly" ? worst : found];
  };
  const old = at(preview.in_force, preview.in_force.threshold);
  const now = at(preview.proposed, preview.threshold);
  window.Plotly.restyle("trade", { x: [[old[0]], [now[0]]], y: [[old[1]], [now[1]]] }, [1, 2]);
  $("trade").setAttribute("aria-label", `Completeness against candidates in the worst night. The line: ${now[1]} at ${now[0]}; in force: ${old[1]} at ${old[0]}`);
}

export function drawNights(preview, filter, chosen, choose) {
  const nights = preview.proposed.candidates?.nights ?? [];
  if (!nights.length) return;
  const budget = filter.max_candidates_per_night;
  const over = nights.map((n) => budget !== null && n.alerts > budget);
  const x = nights.map((n) => n.night);
  const before = preview.in_force.candidates?.nights ?? [];
  const traces = [
    {
      x, y: nights.map((n) => n.alerts), type: "bar", name: "at the line",
      marker: {
        color: over.map((o) => colour(o ? "--bad" : "--live-fill")),
        pattern: { shape: over.map((o) => (o ? "/" : "")), fgcolor: colour("--card") },
        line: { color: x.map((n) => colour(n === chosen ? "--here" : "--live")), width: x.map((n) => (n === chosen ? 2.5 : 0.5)) },
      },
      customdata: nights.map((n) => n.objects),
      hovertemplate: "%{x}<br>%{y:.4~g} alerts of %{customdata:.4~g} objects<extra></extra>",
    },
    {
      x: before.map((n) => n.night), y: before.map((n) => n.alerts), type: "scatter", mode: "markers", name: "in force",
      marker: { symbol: "line-ew-open", size: 13, color: colour("--accent"), line: { width: 2.5 } }, hovertemplate: "in force: %{y:.4~g}<extra></extra>",
    },
  ];
  const shapes = budget === null ? [] : [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: budget, y1: budget, line: { color: colour("--good"), width: 1.2, dash: "dash" } }];
  window.Plotly.react("nights", traces, layout({
    margin: { ...MARGIN, b: 24 }, bargap: 0.25, shapes, hovermode: "closest",
    xaxis: axis("", { type: "category", tickangle: 0, nticks: 12, automargin: false }),
    yaxis: axis("candidates", { rangemode: "tozero", nticks: 5 }),
  }), CONFIG);
  const node = $("nights");
  node.removeAllListeners?.("plotly_click");
  node.on("plotly_click", (event) => choose(event.points[0].x));
  node.setAttribute("aria-label", `Candidates of ${nights.length} nights; the list below has them one by one`);
}
