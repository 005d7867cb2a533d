// The flow, from left to right: where clients come in, services with their mode and routes, pools, endpoints. One lane for what
// belongs together (`lanes`), curves between the columns (`links`).
//
// A pool that is large shows what is not well of it, and the rest as dots, until it is opened. Elements stay with what they show, so
// that focus and selection survive every look. Not here: what happens to an endpoint (`endpoint`).

import { attribute, counted, el, keyed, latency, rate, shown, size, span, svg, text } from './dom.js';
import { chosen, lanes, troubles, ways } from './lanes.js';
import { draw } from './links.js';
import { weightOf } from './rates.js';

/** A pool with more endpoints than this is closed at first; and any, once there are many. */
const SMALL_POOL = 12;
const MANY_ENDPOINTS = 150;
/** Of a closed pool: endpoints that are not well, and routes of a way, that are listed. */
const ILL_LISTED = 4;
const ROUTES_LISTED = 4;

export class Flow {
  constructor(root, onEndpoint) {
    this.root = root;
    this.onEndpoint = onEndpoint;
    this.filter = '';
    this.onlyTrouble = false;
    /** Pools that were opened or closed by hand; and what was said of all. */
    this.opened = new Map();
    this.allOpen = null;
    this.report = null;
    this.watch = new IntersectionObserver((seen) => {
      for (const { target, isIntersecting } of seen) target.seen = isIntersecting;
      this.redraw();
    }, { rootMargin: '200px' });
    this.sizes = new ResizeObserver(() => this.redraw());
    this.sizes.observe(root);
  }

  /** Shows a report. Returns how many lanes there are, and how many of them are shown. */
  show(report, vips) {
    [this.report, this.vips] = [report, vips];
    this.many = report.pools.reduce((sum, pool) => sum + pool.endpoints.length, 0) > MANY_ENDPOINTS;
    const all = lanes(report, vips);
    const found = all.map((lane) => chosen(lane, this.filter, this.onlyTrouble)).filter(Boolean);
    keyed(this.root, found, ({ lane }) => lane.key, () => this.makeLane(), (node, each) => this.updateLane(node, each));
    this.redraw();
    return { all: all.length, shown: found.length };
  }

  again() {
    return this.report ? this.show(this.report, this.vips) : null;
  }

  redraw() {
    if (this.planned || !this.report) return;
    this.planned = true;
    requestAnimationFrame(() => {
      this.planned = false;
      const busiest = {};
      for (const { unit, rate } of this.report.services) busiest[unit] = Math.max(busiest[unit] ?? 0, rate ?? 0);
      draw([...this.root.children], busiest);
    });
  }

  isOpen(pool, endpoints) {
    if (endpoints) return true;
    const small = pool.endpoints.length <= SMALL_POOL && !this.many;
    return this.opened.get(pool.name) ?? this.allOpen ?? small;
  }

  /** Opens every pool, or closes them. */
  openAll(open) {
    this.opened.clear();
    this.allOpen = open;
    this.again();
  }

  makeLane() {
    const columns = ['entries', 'services', 'pools'].map((name) => el('div', { class: `column ${name}` }));
    const curves = svg('svg', { class: 'curves', 'aria-hidden': true, focusable: 'false' });
    const lane = el('section', { class: 'lane' }, curves, columns);
    lane.parts = { curves, columns, entries: new Map(), services: new Map(), pools: new Map() };
    this.watch.observe(lane);
    this.sizes.observe(lane);
    return lane;
  }

  updateLane(node, { lane, endpoints }) {
    const [entries, services, pools] = node.parts.columns;
    const names = [...lane.services, ...lane.pools].map((each) => each.name);
    attribute(node, 'aria-label', `${[...new Set(names)].join(', ')}`);
    attribute(node, 'data-tone', troubles(lane)[0]?.tone ?? 'good');
    const into = (map, key) => (child, item) => map.set(key(item), child);
    for (const map of [node.parts.entries, node.parts.services, node.parts.pools]) map.clear();
    const entry = into(node.parts.entries, (each) => each.key);
    keyed(entries, lane.entries, (each) => each.key, makeEntry, (child, each) => (entry(child, each), updateEntry(child, each)));
    const service = into(node.parts.services, (each) => each.name);
    keyed(services, lane.services, (each) => each.name, makeService, (child, each) => (service(child, each), updateService(child, each)));
    const pool = into(node.parts.pools, (each) => each.name);
    const users = (each) => lane.services.filter((user) => user.said.pools.includes(each.name));
    keyed(pools, lane.pools, (each) => each.name, () => this.makePool(), (child, each) => {
      pool(child, each);
      this.updatePool(child, each, users(each), endpoints);
    });
    node.drawn = lane;
  }

  makePool() {
    const toggle = el('button', { type: 'button', class: 'toggle', 'aria-expanded': false });
    const title = el('strong', { class: 'name' });
    const usable = el('span', { class: 'usable' });
    const numbers = el('dl', { class: 'numbers' });
    const notes = el('p', { class: 'notes' });
    const kind = el('span', { class: 'kind' });
    const card = el('article', { class: 'card pool' }, el('header', {}, title, usable), kind, numbers, notes, toggle);
    const list = el('ul', { class: 'endpoints' });
    const titles = el('div', { class: 'titles', 'aria-hidden': true });
    const rest = el('div', { class: 'rest', role: 'img' });
    const block = el('div', { class: 'block' }, card, el('div', { class: 'members' }, titles, list, rest));
    block.parts = { card, title, usable, kind, numbers, notes, toggle, list, titles, rest };
    block.shown = [];
    // What curves lead to: each endpoint that is listed, and the dots for all others together.
    block.ends = () => [...block.shown, ...(block.others ? [block.others] : [])];
    toggle.addEventListener('click', () => {
      this.opened.set(block.pool, toggle.getAttribute('aria-expanded') !== 'true');
      this.again();
    });
    return block;
  }

  updatePool(block, pool, users, endpoints) {
    const { said, proxied } = pool;
    const { card, title, usable, kind, numbers, notes, toggle, list, titles, rest } = block.parts;
    block.pool = pool.name;
    text(title, pool.name);
    text(usable, `${said.usable}/${pool.endpoints.length} usable`);
    attribute(usable, 'data-tone', said.usable === 0 ? 'bad' : said.usable < pool.endpoints.length ? 'warn' : 'good');
    attribute(card, 'data-tone', said.usable === 0 ? 'bad' : 'good');
    text(kind, `${said.balance}, ${said.probe ? `${said.probe} probe` : 'no probe'}`);
    const unit = poolUnit(pool, users);
    facts(numbers, [
      [unit, rate(pool.rate)],
      proxied && [`${pool.timed}p50`, latency(pool.p50)],
      proxied && [`${pool.timed}p99`, latency(pool.p99)],
      proxied && ['err/s', rate(pool.errors), pool.errors > 0 ? 'bad' : null],
      pool.retries > 0 && ['retry/s', rate(pool.retries), 'warn'],
      said.queue > 0 && ['waiting', String(said.queue), 'warn'],
    ]);
    const unused = users.length === 0 ? 'no service uses it' : '';
    const fails = pool.source && !pool.source.up && pool.source.failure;
    text(notes, [...pool.marks.map((mark) => MARKS[mark]), unused, sourceOf(pool.source)].filter(Boolean).join('; '));
    attribute(notes, 'data-tone', pool.marks.includes('panic') || fails ? 'bad' : pool.marks.includes('backups') ? 'warn' : null);

    const open = this.isOpen(pool, endpoints);
    const wanted = endpoints ? pool.endpoints.filter((each) => endpoints.has(each.said)) : pool.endpoints;
    const listed = open ? wanted : ill(wanted);
    const others = wanted.length - listed.length;
    shown(toggle, !endpoints && (pool.endpoints.length > ILL_LISTED || others > 0));
    attribute(toggle, 'aria-expanded', open);
    text(toggle, open ? 'Fewer' : `All ${pool.endpoints.length}`);
    attribute(toggle, 'aria-label', `${open ? 'Fewer' : 'All'} endpoints of ${pool.name}`);
    const busiest = Math.max(0, ...pool.endpoints.map((each) => each.rate ?? 0));
    shown(titles, listed.length > 0);
    texts(titles, ['endpoint', 'state', unit, 'err/s', proxied ? 'in flight' : 'sent', 'weight', 'cause']);
    block.shown = [];
    keyed(list, listed, (each) => each.name, () => this.makeEndpoint(), (row, each) => {
      updateEndpoint(row, pool, each, unit, busiest);
      block.shown.push({ key: each.name, node: row, rate: each.rate, tone: each.tone });
    });
    shown(rest, others > 0);
    block.others = null;
    if (others > 0) {
      const dots = wanted.filter((each) => !listed.includes(each));
      updateDots(rest, dots);
      const sum = dots.reduce((more, each) => more + (each.rate ?? 0), 0);
      block.others = { key: '…', node: rest, rate: sum, tone: dots.every((each) => each.tone === 'bad') ? 'bad' : 'good' };
    }
  }

  makeEndpoint() {
    const name = el('button', { type: 'button', class: 'endpoint', 'aria-haspopup': 'dialog' });
    const part = (kind) => el('span', { class: kind });
    const bar = el('i', { class: 'bar-fill' });
    const cells = { state: part('state'), rate: part('num'), errors: part('num'), load: part('num'), weight: part('num'), cause: part('cause') };
    const share = el('span', { class: 'share' }, bar);
    const row = el('li', { class: 'row' }, name, cells.state, el('span', { class: 'rate' }, share, cells.rate), cells.errors, cells.load, cells.weight, cells.cause);
    row.parts = { name, bar, ...cells };
    name.addEventListener('click', () => this.onEndpoint(row.target, null));
    return row;
  }

  /** The endpoint that has the focus, as the API names it. */
  focused() {
    return document.activeElement?.closest?.('.row')?.target ?? null;
  }

  /** Moves the focus to the next endpoint, or the one before. */
  step(by) {
    const all = [...this.root.querySelectorAll('button.endpoint')];
    const at = all.indexOf(document.activeElement);
    const next = all[at < 0 ? (by > 0 ? 0 : all.length - 1) : Math.min(all.length - 1, Math.max(0, at + by))];
    next?.focus();
    next?.scrollIntoView({ block: 'nearest' });
  }
}

function makeEntry() {
  const title = el('strong', { class: 'name' });
  const lines = el('ul', { class: 'addresses' });
  const note = el('p', { class: 'notes' });
  const entry = el('article', { class: 'card entry' }, title, lines, note);
  entry.parts = { title, lines, note };
  return entry;
}

function updateEntry(node, { vip, services }) {
  const { title, lines, note } = node.parts;
  const listen = [...new Set(services.flatMap((service) => service.said.listen))];
  text(title, vip ? `vip ${vip.name}` : listen.length === 1 ? 'listener' : 'listeners');
  const ports = new Set(services.flatMap((service) => service.said.listen).map(portOf).filter(Boolean));
  const addresses = vip ? [...vip.addresses.map((at) => at.address), ...[...ports].map((port) => `:${port}`)] : listen;
  texts(lines, addresses, 'li');
  if (!vip) return shown(note, false);
  shown(note, true);
  const conflicts = vip.conflicts_total > 0 ? `, ${counted(vip.conflicts_total, 'conflict')}` : '';
  text(note, `${vip.interface}, ${vip.owner ? 'owner' : 'not the owner'}${conflicts}`);
  attribute(note, 'data-tone', !vip.owner ? 'bad' : vip.conflicts_total > 0 ? 'warn' : null);
}

/** `80/tcp` of `10.0.0.100:80/tcp`; nothing where every port is taken. */
const portOf = (listen) => /:([0-9-]+\/[a-z]+)$/.exec(listen)?.[1] ?? null;

function makeService() {
  const title = el('strong', { class: 'name' });
  const mode = el('span', { class: 'chip' });
  const head = el('header', {}, title, mode);
  const numbers = el('dl', { class: 'numbers' });
  const bytes = el('p', { class: 'kind' });
  const notes = el('p', { class: 'notes', 'data-tone': 'bad' });
  const routes = el('ul', { class: 'ways' });
  const card = el('article', { class: 'card service' }, head, numbers, bytes, notes, routes);
  card.parts = { head, title, mode, numbers, bytes, notes, routes, ports: new Map() };
  return card;
}

function updateService(card, service) {
  const { title, mode, numbers, bytes, notes, routes, ports } = card.parts;
  const { said, unit } = service;
  text(title, service.name);
  text(mode, !said.forward || said.forward === 'mac' ? said.mode : `${said.mode} ${said.forward}`);
  attribute(mode, 'title', `engine: ${said.engine}`);
  attribute(card, 'data-tone', said.engine === 'none' ? 'bad' : 'good');
  facts(numbers, [
    [unit, rate(service.rate)],
    said.mode === 'l7' && ['p50', latency(service.p50)],
    said.mode === 'l7' && ['p99', latency(service.p99)],
    said.mode === 'l7' && ['5xx/s', rate(service.errors), service.errors > 0 ? 'bad' : null],
    ['drop/s', rate(service.dropped), service.dropped > 0 ? 'bad' : null],
    said.connections !== null && ['open', String(said.connections)],
    said.slots_marked !== null && ['slots moving', String(said.slots_marked), said.slots_marked > 0 ? 'warn' : null],
  ]);
  const perSecond = (value) => (value === null ? '-' : `${size(value)}/s`);
  const engine = unit === 'pkt/s' ? `; ${said.engine}` : '';
  text(bytes, `in ${perSecond(service.received)}, out ${perSecond(service.sent)}${engine}`);
  const now = service.drops.filter((drop) => drop.perSecond > 0).slice(0, 3);
  const none = said.engine === 'none' ? ['nothing carries it'] : [];
  text(notes, [...none, ...now.map((drop) => `${drop.reason} ${rate(drop.perSecond)}/s`)].join(', '));
  ports.clear();
  keyed(routes, ways(said), (way) => way.pool, makeWay, (node, way) => {
    ports.set(way.pool, node);
    updateWay(node, way, said);
  });
}

function makeWay() {
  const list = el('ul', { class: 'urls' });
  const to = el('span', { class: 'to' });
  const node = el('li', { class: 'way' }, list, to);
  node.parts = { list, to };
  return node;
}

function updateWay(node, { pool, routes }, service) {
  const { list, to } = node.parts;
  const url = (route) => (route.priority === 0 ? route.url : `${route.url} (priority ${route.priority})`);
  const urls = routes.slice(0, ROUTES_LISTED).map(url);
  if (routes.length > ROUTES_LISTED) urls.push(`and ${routes.length - ROUTES_LISTED} more`);
  if (routes.length === 0) urls.push(service.packets_total === null ? 'every connection' : 'every packet');
  texts(list, urls, 'li');
  text(to, `to ${pool}`);
}

function updateEndpoint(row, pool, each, unit, busiest) {
  const { name, state, rate: rateCell, bar, errors, load, weight, cause } = row.parts;
  const { said } = each;
  row.target = { pool: pool.name, endpoint: each.name };
  text(name, each.name);
  attribute(row, 'data-tone', each.tone);
  attribute(row, 'data-usable', said.usable);
  text(state, `${each.state} ${span(said.since_ms)}`);
  text(rateCell, rate(each.rate));
  attribute(rateCell, 'data-unit', unit);
  bar.style.width = `${busiest > 0 ? Math.round(((each.rate ?? 0) / busiest) * 100) : 0}%`;
  text(errors, rate(each.errors));
  attribute(errors, 'data-tone', each.errors > 0 ? 'bad' : null);
  text(load, pool.proxied ? String(said.in_flight) : size(said.bytes_sent_total));
  text(weight, weightOf(said));
  text(cause, said.cause ?? '');
  attribute(cause, 'title', said.cause);
}

/** The worst first, a few of them. */
function ill(endpoints) {
  const rank = { bad: 0, warn: 1 };
  const found = endpoints.filter((each) => each.tone !== 'good');
  return found.sort((a, b) => rank[a.tone] - rank[b.tone]).slice(0, ILL_LISTED);
}

function updateDots(node, endpoints) {
  const tally = new Map();
  for (const each of endpoints) tally.set(each.state, (tally.get(each.state) ?? 0) + 1);
  const words = [...tally].map(([state, n]) => `${n} ${state}`).join(', ');
  attribute(node, 'aria-label', words);
  if (!node.parts) {
    node.parts = { dots: el('span', { class: 'dots' }), words: el('span', { class: 'words' }) };
    node.append(node.parts.dots, node.parts.words);
  }
  keyed(node.parts.dots, endpoints, (each) => each.name, () => el('i'), (dot, each) => attribute(dot, 'data-tone', each.tone));
  text(node.parts.words, words);
}

/** Where the endpoints of a pool come from, where that is not the file. */
function sourceOf(source) {
  if (!source) return null;
  const leaving = source.leaving > 0 ? `, ${source.leaving} leaving` : '';
  const fails = source.up ? '' : source.failure ? ` fails: ${source.failure}` : ' is asked';
  return `from ${source.kind} ${source.about}${fails}${leaving}`;
}

function poolUnit(pool, users) {
  if (!pool.proxied) return 'pkt/s';
  return users.length > 0 && users.every((service) => service.unit === 'conn/s') ? 'conn/s' : 'req/s';
}

/** A list of names with values: `[name, value, tone]`, or nothing. */
export function facts(list, all) {
  keyed(list, all.filter(Boolean), ([name]) => name, ([name]) => {
    const value = el('dd');
    const node = el('div', {}, el('dt', {}, name), value);
    node.value = value;
    return node;
  }, (node, [, value, tone]) => {
    text(node.value, value);
    attribute(node.value, 'data-tone', tone);
  });
}

function texts(parent, all, tag = 'span') {
  const items = all.map((value, at) => ({ value, at }));
  keyed(parent, items, ({ at }) => at, () => el(tag), (node, { value }) => text(node, value));
}

const MARKS = {
  panic: 'panic: all serve that are not drained',
  backups: 'backups serve',
  local: "this node's zone serves",
};
