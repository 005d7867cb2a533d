// The admin API: one question at a time, bounded in time, with the token where one is asked for.
//
// The token is kept for this tab (sessionStorage), sent in a header only, and forgotten when it turns out to be wrong.

import { keep, recalled } from './dom.js';

const KEPT = ['sessionStorage', 'strata-token'];
const PATIENCE_MS = 8000;

/** An answer that is no success, in the words of the API. */
export class Refused extends Error {
  constructor(status, problem) {
    super(problem?.error ?? `status ${status}`);
    this.status = status;
    this.help = problem?.help ?? null;
  }
}

/** Nobody answers. */
export class Unreachable extends Error {}

/** Relative, so that the page works below a path of another server too. */
const url = (path) => new URL(`api/${path}`, document.baseURI);

export async function get(path) {
  return answered(path, { headers: fields() });
}

/** Changes something; `body` is a document, or nothing. */
export async function post(path, body) {
  const headers = { ...fields(), 'Content-Type': 'application/json' };
  return answered(path, { method: 'POST', headers, body: body === undefined ? undefined : JSON.stringify(body) });
}

/** What an endpoint's operations are called below. */
export function endpointPath(pool, endpoint, operation) {
  return `pools/${encodeURIComponent(pool)}/endpoints/${encodeURIComponent(endpoint)}/${operation}`;
}

async function answered(path, options) {
  const timer = new AbortController();
  const late = setTimeout(() => timer.abort(), PATIENCE_MS);
  try {
    const answer = await reached(url(path), { ...options, signal: timer.signal });
    const document = await answer.json().catch(() => null);
    if (!answer.ok) throw new Refused(answer.status, document);
    if (document === null) throw new Unreachable('what answers is not Strata');
    return document;
  } finally {
    clearTimeout(late);
  }
}

async function reached(to, options) {
  try {
    return await fetch(to, { ...options, cache: 'no-store', credentials: 'omit', redirect: 'error', referrerPolicy: 'no-referrer' });
  } catch {
    // A browser tells a page no more than that.
    throw new Unreachable(options.signal.aborted ? `no answer within ${PATIENCE_MS / 1000}s` : 'no connection');
  }
}

function fields() {
  return held ? { Authorization: `Bearer ${held}` } : {};
}

let held = recalled(...KEPT);

export const token = {
  keep(given) {
    held = given;
    keep(...KEPT, given);
  },
  isKept: () => held !== null,
  forget() {
    held = null;
    keep(...KEPT, null);
  },
};
