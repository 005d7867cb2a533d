// What is looked at first: whether it serves, how much, how fast, and what goes wrong; packets; drops by reason.

import { attribute, byId, clock, count, counted, el, keyed, latency, rate, shown, size, span, svg, text } from './dom.js';
import { facts } from './flow.js';
import { total } from './rates.js';

/** Looks that a tile's line goes back. */
const REMEMBERED = 90;
/** And the least that it is as wide as the tile for. */
const SHORTEST = 20;

const history = new Map();

export function showState(status) {
  const lost = status.services.filter((service) => service.engine === 'none').length;
  const ready = lost > 0 ? [`ready, ${lost} not served`, 'warn'] : ['ready', 'good'];
  const state = status.draining ? ['draining', 'warn'] : status.ready ? ready : ['not ready', 'bad'];
  text(byId('state'), state[0]);
  attribute(byId('state'), 'data-tone', state[1]);
  const taken = status.last_reload_success_at_ms > 0 ? ` since ${clock(status.last_reload_success_at_ms)}` : '';
  text(byId('facts'), `${status.version}, up ${span(status.uptime_ms)}, generation ${status.generation}${taken}, ${counted(status.workers, 'worker')}`);
  document.title = `${status.ready ? '' : `${state[0]}: `}Strata ${location.host}`;
}

/** Sums over all services; an element for each that anything is known of. */
export function showTiles(report, status) {
  const sum = (of) => total(report.services.map(of));
  const endpoints = status.pools.reduce((all, pool) => all + pool.endpoints.length, 0);
  const usable = status.pools.reduce((all, pool) => all + pool.usable, 0);
  const bad = (value) => (value > 0 ? 'bad' : null);
  const [requests, connections, packets] = [sum((each) => each.requests), sum((each) => each.connections), sum((each) => each.packets)];
  const [received, sent] = [sum((each) => each.received), sum((each) => each.sent)];
  const [errors, dropped] = [sum((each) => each.errors), total([sum((each) => each.dropped), strays(report)])];
  const bytes = (value) => (value === null ? '-' : `${size(value)}/s`);
  const tiles = [
    has(report, 'req/s') && { name: 'requests', value: requests, shown: rate(requests), unit: 'a second' },
    { name: 'connections', value: connections, shown: rate(connections), unit: `a second, ${count(status.connections)} open` },
    status.packets && { name: 'packets', value: packets, shown: rate(packets), unit: 'a second' },
    has(report, 'req/s') && { name: 'latency p99', value: report.latency.p99, shown: latency(report.latency.p99), unit: `p50 ${latency(report.latency.p50)}` },
    { name: 'traffic', value: total([received, sent]), shown: bytes(sent), unit: `out, ${bytes(received)} in` },
    has(report, 'req/s') && { name: '5xx', value: errors, shown: rate(errors), unit: 'a second', tone: bad(errors) },
    { name: 'drops', value: dropped, shown: rate(dropped), unit: 'a second', tone: bad(dropped) },
    { name: 'endpoints', value: usable, shown: `${usable}/${endpoints}`, unit: 'usable', tone: usable < endpoints ? 'warn' : null },
  ].filter(Boolean);
  keyed(byId('overview'), tiles, (tile) => tile.name, makeTile, updateTile);
}

const has = (report, unit) => report.services.some((service) => service.unit === unit);
const strays = (report) => (report.packets ? total(report.packets.drops.map((drop) => drop.perSecond)) : null);

function makeTile({ name }) {
  const [value, unit] = [el('strong'), el('span')];
  const line = svg('polyline', { fill: 'none' });
  const chart = svg('svg', { class: 'spark', viewBox: '0 0 100 24', preserveAspectRatio: 'none', 'aria-hidden': true, focusable: 'false' }, line);
  const tile = el('div', { class: 'tile' }, el('h3', {}, name), el('p', {}, value, unit), chart);
  tile.parts = { value, unit, line };
  return tile;
}

function updateTile(tile, { name, value, shown, unit, tone }) {
  text(tile.parts.value, shown);
  text(tile.parts.unit, unit);
  attribute(tile, 'data-tone', tone);
  const past = history.get(name) ?? [];
  history.set(name, past);
  // What was not known was not zero.
  if (value !== null) past.push(value);
  if (past.length > REMEMBERED) past.shift();
  const most = Math.max(...past, 1e-9);
  const step = 100 / (Math.max(past.length, SHORTEST) - 1);
  const points = past.map((each, at) => `${(100 - (past.length - 1 - at) * step).toFixed(1)},${(22.5 - (each / most) * 21).toFixed(1)}`);
  attribute(tile.parts.line, 'points', points.join(' '));
}

export function showPackets(report) {
  shown(byId('packets'), report.packets !== null);
  if (!report.packets) return;
  const { said, interfaces } = report.packets;
  const meters = [
    { name: 'flow records', used: said.flow_records, most: said.flow_records_limit },
    { name: 'translated flows', used: said.nat_flows, most: said.nat_flows_limit },
  ];
  const body = byId('packets-body');
  const rows = [...meters.map((meter) => ({ key: meter.name, meter })), ...interfaces.map((each) => ({ key: `interface ${each.said.name}`, each }))];
  keyed(body, rows, (row) => row.key, makePacketsRow, updatePacketsRow);
}

function makePacketsRow({ key }) {
  const numbers = el('dl', { class: 'numbers' });
  const meter = el('meter', { min: 0, high: 0.8, optimum: 0, max: 1, 'aria-label': key });
  const card = el('article', { class: 'card' }, el('strong', { class: 'name' }, key), meter, numbers);
  card.parts = { numbers, meter };
  return card;
}

function updatePacketsRow(card, { meter, each }) {
  shown(card.parts.meter, Boolean(meter));
  if (meter) {
    card.parts.meter.value = meter.most > 0 ? meter.used / meter.most : 0;
    return facts(card.parts.numbers, [[`of ${count(meter.most)}`, count(meter.used)]]);
  }
  const lost = total(each.lost.map((loss) => loss.perSecond));
  const reasons = each.lost.slice(0, 3).map((loss) => `${loss.reason} ${count(loss.total)}`).join(', ');
  facts(card.parts.numbers, [
    ['workers', String(each.said.workers), each.said.workers === 0 ? 'bad' : null],
    ['frames in/s', rate(each.received)],
    ['frames out/s', rate(each.sent)],
    ['lost/s', rate(lost ?? 0), lost > 0 ? 'bad' : null],
    reasons && ['lost since the start', reasons],
  ]);
}

/** One row a reason: how many a second, since the start, and of which service. */
export function showDrops(report) {
  const rows = new Map();
  const add = (service, drop) => {
    const row = rows.get(drop.reason) ?? { reason: drop.reason, perSecond: 0, total: 0, services: [] };
    row.perSecond += drop.perSecond ?? 0;
    row.total += drop.total;
    row.services.push({ service, total: drop.total });
    rows.set(drop.reason, row);
  };
  for (const service of report.services) service.drops.forEach((drop) => add(service.name, drop));
  report.packets?.drops.forEach((drop) => add('no service', drop));
  const all = [...rows.values()].sort((a, b) => b.perSecond - a.perSecond || b.total - a.total);
  const body = byId('drops-body');
  shown(body, true);
  if (!body.table) {
    body.table = el('table', {}, el('thead', {}, el('tr', {}, ...['reason', 'a second', 'since the start', 'services'].map((title) => el('th', { scope: 'col' }, title)))), el('tbody'));
    body.none = el('p', { class: 'muted' }, 'Nothing was dropped since the start.');
    body.append(body.table, body.none);
  }
  shown(body.table, all.length > 0);
  shown(body.none, all.length === 0);
  keyed(body.table.tBodies[0], all, (row) => row.reason, ({ reason }) => {
    const cells = [el('td', { class: 'num' }), el('td', { class: 'num' }), el('td')];
    const row = el('tr', {}, el('th', { scope: 'row' }, reason), cells);
    row.cells3 = cells;
    return row;
  }, (row, { perSecond, total, services }) => {
    const [now, ever, who] = row.cells3;
    text(now, rate(perSecond));
    attribute(now, 'data-tone', perSecond > 0 ? 'bad' : null);
    text(ever, count(total));
    const listed = services.sort((a, b) => b.total - a.total).slice(0, 4).map((each) => `${each.service} ${count(each.total)}`);
    text(who, listed.join(', ') + (services.length > 4 ? `, and ${services.length - 4} more` : ''));
  });
}
