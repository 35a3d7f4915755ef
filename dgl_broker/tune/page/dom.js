// Elements and numbers. Text from data becomes text nodes, never markup.

export const $ = (id) => document.getElementById(id);

export function h(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") for (const [event, call] of Object.entries(value)) made.addEventListener(event, call);
    else if (name === "style") made.style.cssText = value;
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false));
  return made;
}

export function fill(node, ...children) {
  node.replaceChildren(...children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false));
}

// An SVG that the server drew, parsed as XML: nothing in it can run.
export function svg(text) {
  const parsed = new DOMParser().parseFromString(text, "image/svg+xml").documentElement;
  return parsed.nodeName === "svg" ? document.importNode(parsed, true) : h("span", {}, "no light curve");
}

const minus = (text) => text.replace(/-/g, "−");

export function short(value, digits = 3) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 10 ** digits) return minus(Math.round(value).toLocaleString("en").replace(/,/g, "\u202f"));
  if (size < 1e-3) {
    const [front, power] = value.toExponential(1).split("e");
    return minus(`${front.replace(/\.0$/, "")}e${Number(power)}`);
  }
  return minus(String(Number(value.toPrecision(digits))));
}

export const share = (value) => (value === null || value === undefined ? "–" : value.toFixed(value >= 0.0995 || value === 0 ? 2 : 3));

export function scoreText(value, range) {
  if (value === null || value === undefined) return "–";
  if (range[1] > 1) return minus(String(Number(value.toFixed(4))));
  return value > 0.99 && value < 1 ? `1 − ${short(1 - value, 3)}` : short(value, 4);
}

export const plural = (n, one, many = `${one}s`) => `${short(n, 6)} ${n === 1 ? one : many}`;

// One in so many: what a purity of 3e-4 means at four in the morning.
export function oneIn(value) {
  if (!value) return "–";
  return value > 0.3 ? `${share(value)} of all` : `1 in ${short(Number((1 / value).toPrecision(2)), 2)}`;
}

// "3 min ago" of an ISO time.
export function ago(iso) {
  const seconds = (Date.now() - Date.parse(iso)) / 1000;
  if (!Number.isFinite(seconds)) return iso;
  for (const [size, name] of [[86400, "d"], [3600, "h"], [60, "min"]])
    if (seconds >= size) return `${Math.floor(seconds / size)} ${name} ago`;
  return "just now";
}

export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}
