// What the guards say, the activation and the way back, who has done what, and which workers have it.

import { $, ago, fill, h, plural, scoreText } from "./dom.js";
import { Refused, get, post } from "./api.js";

const WAIT_MS = 45_000;
const POLL_MS = 400;
const TOKEN_KEY = "dgl-tune-token";
const WHO_KEY = "dgl-tune-who";

function stored(storage, key, value) {
  try {
    if (value === undefined) return storage.getItem(key) ?? "";
    storage.setItem(key, value);
  } catch {
    // storage is denied: it is typed again
  }
  return value ?? "";
}

export function beginDecision(state) {
  $("who").value = stored(localStorage, WHO_KEY) || state.who;
  $("token").value = stored(sessionStorage, TOKEN_KEY);
}

export function say(text, kind = "") {
  $("result").className = `result ${kind}`;
  $("result").textContent = text;
}

export function showDecision(preview, filter, readOnly) {
  const words = (f) => scoreText(f, filter.score_range);
  const cuts = preview.cutsChanged ? `, ${plural(preview.cutsChanged, "pre-cut")} changed` : "";
  fill($("proposal"), ...(preview.changed ? [h("b", {}, words(preview.threshold)), ` instead of ${words(preview.in_force.threshold)} (version ${preview.in_force.version})${cuts}`]
    : [h("b", {}, words(preview.threshold)), ` as in force (version ${preview.in_force.version})`]));
  fill($("guard"), preview.guard.map((check) => {
    const [kind, sign, spoken] = check.ok === null ? ["none", "–", "no limit"] : check.ok ? ["ok", "✓", "passed"] : ["no", "✕", "refused"];
    return h("li", { class: kind }, h("span", { class: "sign", "aria-hidden": "true" }, sign), h("span", {}, h("span", { class: "hidden" }, `${spoken}: `), h("b", {}, check.name), ` ${check.text}`));
  }));
  const button = $("activate");
  const refused = preview.refused.length > 0;
  const why = readOnly ? "Read-only: started without DGL_TUNE_TOKEN" : !preview.changed && filter.bundle_sha256 ? "This is in force" : refused ? "Refused by the guards" : null;
  button.textContent = why ?? `Activate version ${preview.in_force.version + 1}`;
  button.setAttribute("aria-disabled", String(why !== null));
}

async function arrivalOf(name, version, from) {
  for (;;) {
    const now = await get(`/api/v1/workers?filter=${encodeURIComponent(name)}`);
    const seconds = ((performance.now() - from) / 1000).toFixed(1);
    const n = now.in_force_on.length + now.lagging.length;
    const silent = now.silent.length ? `\nSilent for more than a minute, not waited for: ${now.silent.join(", ")}` : "";
    if (!n) {
      say(`Version ${version} is written. ${silent ? "" : "No worker runs this filter now: it holds from the next start on."}${silent}`, "");
      return;
    }
    if (!now.lagging.length) {
      say(`Version ${version} is in force on ${n === 1 ? "the worker" : `all ${n} workers`}, after ${seconds} s.${silent}`, "");
      return;
    }
    say(`Version ${version} is written; ${now.in_force_on.length} of ${n} workers have it. Waiting for:\n${now.lagging.join("\n")}${silent}`, "wait");
    if (performance.now() - from > WAIT_MS) {
      say(`Version ${version} is written, but after ${seconds} s these lag:\n${now.lagging.join("\n")}${silent}`, "no");
      return;
    }
    await new Promise((done) => setTimeout(done, POLL_MS));
  }
}

// Sends a change; true when it is done. `after` takes in the new version before the workers are waited for.
export async function change(path, body, { after, focus }) {
  const token = $("token").value.trim();
  stored(sessionStorage, TOKEN_KEY, token);
  stored(localStorage, WHO_KEY, $("who").value.trim());
  if (!token) {
    say("A token is needed to change something.", "no");
    $("token").focus();
    return false;
  }
  say("Writing…", "wait");
  try {
    const began = performance.now();
    const done = await post(path, { ...body, who: $("who").value.trim() || null }, { token });
    await after(done);
    await arrivalOf(done.filter, done.version, began);
    return true;
  } catch (error) {
    const reasons = error instanceof Refused ? error.reasons : [`The server does not answer: ${error.message}`];
    const heads = { 401: "Not allowed: ", 403: "Not allowed: ", 409: "Someone else was quicker: " };
    say(`${heads[error.status] ?? "Refused: "}${reasons.join("\n")}`, "no");
    if (error.status === 401) $("token").focus();
    else focus?.focus();
    if (error.status === 409) await after(null);
    return false;
  }
}

export function showHistory(history, filter, readOnly, rollBack) {
  const { changes, broken_lines: broken } = history;
  const before = changes.length ? changes.at(-1) : null;
  const items = changes.map((c) => {
    const now = c.version === filter.version;
    const back = now || readOnly ? null
      : h("button", { type: "button", class: "plain", on: { click: () => rollBack(c.version) } }, `Roll back to ${c.version}`);
    return h("li", { class: now ? "now" : null }, h("b", {}, `version ${c.version}`), ` ${now ? "in force" : ""} · `, h("span", { title: c.when }, ago(c.when)), ` · ${c.who}`,
      c.action.startsWith("roll_back") ? " · rolled back" : "", h("div", {}, c.changes.join("; ") || "the same"), h("div", { class: "quiet" }, c.why), back);
  });
  if (before?.from_version) {
    const first = before.from_version;
    items.push(h("li", {}, h("b", {}, `version ${first}`), ` · ${scoreText(before.from_threshold, filter.score_range)}, where the log begins`,
      readOnly || first === filter.version ? null : h("div", {}, h("button", { type: "button", class: "plain", on: { click: () => rollBack(first) } }, `Roll back to ${first}`))));
  }
  if (broken.length) items.push(h("li", {}, `Lines ${broken.join(", ")} of the audit log cannot be read.`));
  fill($("history"), items.length ? items : h("li", {}, `Version ${filter.version}; no change in the audit log yet.`));
}

export function showWorkers(now, filter) {
  fill($("workers"), now.workers.length ? now.workers.map((w) => {
    const lags = w.version < filter.version;
    return h("li", {}, h("b", {}, w.worker), ` version ${w.version}${lags ? " (lags)" : ""}, ${w.silent ? "silent, last seen" : "since"} ${ago(w.silent ? w.seen : w.since)}`,
      w.problem ? h("div", { class: "quiet" }, w.problem) : null);
  }) : h("li", {}, "None reports: nothing runs with this filter, or elsewhere."));
  const alive = now.workers.filter((w) => !w.silent);
  const have = alive.filter((w) => w.version >= filter.version).length;
  fill($("force"), "in force ", h("b", {}, `version ${filter.version}`), ", ", h("b", {}, scoreText(filter.threshold, filter.score_range)),
    alive.length ? `, on ${have} of ${plural(alive.length, "worker")}` : ", no worker reports");
}
