// Elements, and how numbers read. Whatever comes from the API goes in as text: nothing here, or anywhere on this page, makes markup
// of it, and the page's policy (trusted types) would not let it.

const SVG = 'http://www.w3.org/2000/svg';

/** An element with attributes (`class`, `data-…`, `onclick` as a function) and children: elements, texts, or nothing. */
export function el(tag, attributes = {}, ...children) {
  return dress(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return dress(document.createElementNS(SVG, tag), attributes, children);
}

function dress(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === 'function') node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? '' : String(value));
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** Touches the page only where something changed: a screen reader is told of every touch. */
export function text(node, value) {
  const wanted = String(value ?? '');
  if (node.textContent !== wanted) node.textContent = wanted;
}

export function attribute(node, name, value) {
  const wanted = value === null || value === undefined || value === false ? null : String(value === true ? '' : value);
  if (node.getAttribute(name) === wanted) return;
  if (wanted === null) node.removeAttribute(name);
  else node.setAttribute(name, wanted);
}

export function shown(node, is) {
  if (node.hidden === is) node.hidden = !is;
}

/** Makes the children of `parent` those of `items`, keeping the elements of items that stay, with their focus. */
export function keyed(parent, items, key, make, update) {
  const nodes = (parent.keyedNodes ??= new Map());
  const wanted = new Set(items.map(key));
  for (const [name, node] of nodes) {
    if (wanted.has(name)) continue;
    node.remove();
    nodes.delete(name);
  }
  let place = parent.firstElementChild;
  for (const item of items) {
    const name = key(item);
    let node = nodes.get(name);
    if (!node) nodes.set(name, (node = make(item)));
    if (node === place) place = place.nextElementSibling;
    else parent.insertBefore(node, place);
    update(node, item);
  }
}

/** Of what a browser keeps for a page; one that keeps nothing (its site data is blocked) forgets with the page. */
export function recalled(storage, key) {
  try {
    return window[storage].getItem(key);
  } catch {
    return null;
  }
}

/** Keeps a text, or forgets it where it is null. */
export function keep(storage, key, value) {
  try {
    if (value === null) window[storage].removeItem(key);
    else window[storage].setItem(key, value);
  } catch {
    // As above.
  }
}

export const byId = (id) => document.getElementById(id);

/** `950`, `12.3k`, `4.5M`, as `strata status` has it: rounded down, so that nothing is shown that was not reached. */
export function count(n) {
  return scaled(n, 1000, ['', 'k', 'M', 'G', 'T']);
}

/** `950 B`, `12.3 KiB`. */
export function size(bytes) {
  return scaled(bytes, 1024, [' B', ' KiB', ' MiB', ' GiB', ' TiB']);
}

function scaled(n, step, units) {
  if (n === null || n === undefined) return '-';
  if (n < 10 * step) return `${Math.floor(n)}${units[0]}`;
  let [value, unit] = [n, 0];
  while (value >= step && unit + 1 < units.length) [value, unit] = [value / step, unit + 1];
  return `${(Math.floor(value * 10) / 10).toFixed(1)}${units[unit]}`;
}

/** A rate: `-` where it is not known, one digit behind the point below 10. */
export function rate(perSecond) {
  if (perSecond === null || perSecond === undefined) return '-';
  if (perSecond === 0) return '0';
  if (perSecond < 0.1) return '<0.1';
  return perSecond < 10 ? perSecond.toFixed(1) : count(perSecond);
}

/** `350ms`, `12s`, `5m 3s`, `2h 10m`, `3d 4h`. */
export function span(ms) {
  if (ms === null || ms === undefined) return '-';
  const s = Math.floor(ms / 1000);
  if (s < 1) return `${Math.floor(ms)}ms`;
  if (s < 60) return `${s}s`;
  if (s < 3600) return `${Math.floor(s / 60)}m ${s % 60}s`;
  if (s < 86400) return `${Math.floor(s / 3600)}h ${Math.floor(s / 60) % 60}m`;
  return `${Math.floor(s / 86400)}d ${Math.floor(s / 3600) % 24}h`;
}

/** Microseconds: `614µs`, `3.9ms`, `1.2s`; beyond the last bucket `60s+`. */
export function latency(us) {
  if (us === null || us === undefined) return '-';
  if (us >= 60_000_000) return '60s+';
  if (us >= 1_000_000) return `${(us / 1e6).toFixed(1)}s`;
  if (us >= 10_000) return `${Math.round(us / 1000)}ms`;
  return us >= 1000 ? `${(us / 1000).toFixed(1)}ms` : `${us}µs`;
}

/** `14:03:07`, with the day where it is not today. */
export function clock(ms) {
  const at = new Date(ms);
  const pad = (n) => String(n).padStart(2, '0');
  const time = [at.getHours(), at.getMinutes(), at.getSeconds()].map(pad).join(':');
  const today = at.toDateString() === new Date().toDateString();
  return today ? time : `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())} ${time}`;
}

export const counted = (n, what) => `${count(n)} ${what}${n === 1 ? '' : 's'}`;
