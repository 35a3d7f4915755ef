// What the page asks its server. Errors come as one exception with the reasons that people are to read.

export class Refused extends Error {
  constructor(status, body) {
    super(body.detail || `the server answered ${status}`);
    this.status = status;
    this.reasons = body.reasons || [this.message];
  }
}

async function answer(response) {
  let body = {};
  try {
    body = await response.json();
  } catch {
    // not JSON: a proxy's own page, say
  }
  if (!response.ok) throw new Refused(response.status, body);
  return body;
}

export async function get(path) {
  return answer(await fetch(path, { headers: { accept: "application/json" }, cache: "no-store" }));
}

export async function post(path, body, { token = null, signal = null } = {}) {
  const headers = { "content-type": "application/json", accept: "application/json" };
  if (token) headers.authorization = `Bearer ${token}`;
  return answer(await fetch(path, { method: "POST", headers, body: JSON.stringify(body), signal, cache: "no-store" }));
}

// Of many calls only the first and the latest are made: a slider sends more than anyone wants to see answered.
export function latest(work) {
  let running = false;
  let next = null;
  return async function call(...args) {
    if (running) {
      next = args;
      return;
    }
    running = true;
    try {
      await work(...args);
    } finally {
      running = false;
      if (next) {
        const again = next;
        next = null;
        call(...again);
      }
    }
  };
}
