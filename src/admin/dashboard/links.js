// The curves between the columns of a lane: as wide as what goes along them, in the colour of where they lead.
//
// Places are read for all lanes before anything is drawn, and only of lanes that are on the screen. Small screens have no columns,
// and no curves (the style sheet hides them).

import { attribute, keyed, svg } from './dom.js';

const WIDEST = 16;
const NARROWEST = 1.5;

/** Draws the curves of `lanes`: elements with `.drawn`, what `flow` shows in them. `busiest` is the largest rate of each unit. */
export function draw(lanes, busiest) {
  const plans = lanes.filter((lane) => lane.seen && lane.clientWidth > 0).map((lane) => ({ lane, curves: plan(lane, busiest) }));
  for (const { lane, curves } of plans) {
    keyed(lane.parts.curves, curves, (curve) => curve.key, make, update);
  }
}

function make() {
  return svg('path', { fill: 'none' });
}

function update(path, { d, width, tone, idle }) {
  attribute(path, 'd', d);
  attribute(path, 'stroke-width', width.toFixed(1));
  attribute(path, 'class', `curve ${tone}${idle ? ' idle' : ''}`);
}

/** Where each curve of a lane goes. */
function plan(lane, busiest) {
  const { drawn, parts } = lane;
  const origin = parts.curves.getBoundingClientRect();
  const place = (node) => {
    const box = node.getBoundingClientRect();
    return { left: box.left - origin.left, right: box.right - origin.left, middle: box.top - origin.top + box.height / 2, height: box.height };
  };
  const scale = scaleOf(drawn, busiest);
  const curves = [];
  const join = (key, from, to, rate, tone) => {
    const width = scale(rate);
    curves.push({ key, from, to, width, tone, idle: !(rate > 0) });
  };
  for (const entry of drawn.entries) {
    const from = parts.entries.get(entry.key);
    for (const service of entry.services) {
      const to = parts.services.get(service.name);
      if (from && to) join(`in ${service.name}`, place(from), place(to), service.rate, service.said.engine === 'none' ? 'bad' : 'good');
    }
  }
  for (const { service, pool, rate } of drawn.links) {
    const card = parts.services.get(service.name);
    // From the routes that lead there; where all lead to one pool, from the service.
    const from = card?.parts.ports.size > 1 ? card.parts.ports.get(pool.name) : card;
    const to = parts.pools.get(pool.name)?.parts.card;
    const tone = pool.said.usable === 0 ? 'bad' : 'good';
    if (from && to) join(`way ${service.name} ${pool.name}`, place(from), place(to), rate, tone);
  }
  for (const pool of drawn.pools) {
    const block = parts.pools.get(pool.name);
    if (!block) continue;
    const from = place(block.parts.card);
    for (const { key, node, rate, tone } of block.ends()) {
      const to = place(node);
      // Where there is little room, endpoints stand below their pool.
      if (to.left > from.right) join(`end ${pool.name} ${key}`, from, to, rate, tone);
    }
  }
  spread(curves, 'from', 'right');
  spread(curves, 'to', 'left');
  return curves.map((curve) => ({ ...curve, d: bezier(curve) }));
}

/** What ends at one card does so one below the other, in the order of where it comes from. */
function spread(curves, end, side) {
  const groups = new Map();
  for (const curve of curves) {
    const key = `${curve[end][side].toFixed(0)} ${curve[end].middle.toFixed(0)}`;
    groups.set(key, [...(groups.get(key) ?? []), curve]);
  }
  const other = end === 'from' ? 'to' : 'from';
  for (const group of groups.values()) {
    group.sort((a, b) => a[other].middle - b[other].middle);
    const room = Math.max(4, group[0][end].height - 10);
    const needed = group.reduce((sum, curve) => sum + curve.width, 0) + group.length - 1;
    const squeeze = Math.min(1, room / needed);
    let at = group[0][end].middle - (needed * squeeze) / 2;
    for (const curve of group) {
      curve[`${end}Y`] = at + (curve.width * squeeze) / 2;
      at += (curve.width + 1) * squeeze;
    }
  }
}

function bezier({ from, to, fromY, toY }) {
  const [x1, x2] = [from.right, to.left];
  const middle = (x1 + x2) / 2;
  const at = (n) => n.toFixed(1);
  return `M${at(x1)} ${at(fromY)}C${at(middle)} ${at(fromY)} ${at(middle)} ${at(toY)} ${at(x2)} ${at(toY)}`;
}

/** Within a lane in proportion, so that shares can be seen; a quiet lane beside a busy one is thinner. */
function scaleOf(lane, busiest) {
  const rows = [...lane.services, ...lane.pools].filter((row) => row.rate > 0);
  const most = Math.max(0, ...rows.map((row) => row.rate));
  const unit = lane.services[0]?.unit ?? 'req/s';
  const widest = most > 0 ? 5 + (WIDEST - 5) * Math.sqrt(Math.min(1, most / Math.max(busiest[unit] ?? most, most))) : NARROWEST;
  return (rate) => (rate > 0 ? Math.max(NARROWEST, (widest * Math.min(rate, most)) / most) : NARROWEST);
}
