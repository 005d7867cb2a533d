// The last changes with their causes, and what there is to say of the configuration: both are asked for only when there is news.

import { get } from './api.js';
import { attribute, byId, clock, counted, el, keyed, shown, text } from './dom.js';

/** Changes that are asked for at once, and shown. */
const ASKED = 200;
/** What changes the diagnostics: a reload, taken or refused, what a source finds, and what clients' addresses say. */
const DIAGNOSED = new Set(['reload', 'change', 'source', 'clients']);

/** What is known, of one process: numbers begin anew with each. */
const known = { pid: null, last: 0, events: [], diagnosed: false, told: null };

/** Brings what is new since the last look. `status` says whether there is anything. */
export async function follow(status) {
  if (known.pid !== status.pid) Object.assign(known, { pid: status.pid, last: 0, events: [], diagnosed: false });
  // Not all that changes them is an event; and what a notice says must be found there.
  // A status brings the first mistakes of a source only; how many of each kind there are tells of those behind them.
  const told = JSON.stringify([status.warnings, (status.sources ?? []).map(({ mistakes, refused }) => [mistakes, refused])]);
  if (known.told !== told) Object.assign(known, { told, diagnosed: false });
  // A Strata of before this field is asked each time.
  const news = status.last_event === undefined || status.last_event > known.last;
  if (news) await bringEvents();
  if (!known.diagnosed) await bringDiagnostics();
}

async function bringEvents() {
  const page = await get(known.last > 0 ? `events?since=${known.last}&limit=2048` : `events?limit=${ASKED}`);
  // It came from another process than the status: the next look begins anew.
  if (page.pid !== known.pid) return;
  const fresh = page.events.filter((event) => event.seq > known.last);
  if (fresh.some((event) => DIAGNOSED.has(event.kind))) known.diagnosed = false;
  known.last = page.last;
  known.events = [...fresh.reverse(), ...known.events].slice(0, ASKED);
  const gone = page.last - known.events.length;
  shown(byId('changes-gap'), gone > 0);
  text(byId('changes-gap'), `and ${counted(gone, 'change')} before: strata events`);
  keyed(byId('changes-list'), known.events, (event) => `${known.pid} ${event.seq}`, makeEvent, () => {});
}

function makeEvent({ at_ms, level, kind, subject, text: said }) {
  const tone = { error: 'bad', warn: 'warn' }[level] ?? 'none';
  const time = el('time', { datetime: new Date(at_ms).toISOString() }, clock(at_ms));
  return el('li', { 'data-tone': tone }, time, el('span', { class: 'chip' }, kind), subject && el('strong', {}, subject), el('span', { class: 'said' }, said));
}

async function bringDiagnostics() {
  const { generation, warnings, rendered, refused, found } = await get('diagnostics');
  known.diagnosed = true;
  const blocks = [];
  if (refused) {
    blocks.push({ key: `refused ${refused.at_ms}`, tone: 'bad', title: `The reload of ${clock(refused.at_ms)} (${refused.by}) was refused: ${refused.error}`, rendered: refused.rendered });
  }
  if (warnings.length > 0) {
    blocks.push({ key: `warnings ${generation}`, tone: 'warn', title: `${counted(warnings.length, 'warning')} of generation ${generation}, which serves`, rendered });
  }
  for (const [at, { table, reason, place, message, help }] of (found ?? []).entries()) {
    blocks.push({ key: `found ${at} ${table} ${place} ${message}`, tone: 'warn', title: `${table}, ${reason}: ${message} (${place})`, rendered: help ?? '' });
  }
  if (blocks.length === 0) blocks.push({ key: `none ${generation}`, tone: 'good', title: `No warnings: generation ${generation} serves as the file says.`, rendered: '' });
  keyed(byId('diagnostics-body'), blocks, (block) => block.key, () => el('article', { class: 'diagnostic' }, el('p'), el('pre', { tabindex: 0 })), (node, block) => {
    text(node.firstChild, block.title);
    attribute(node.lastChild, 'aria-label', block.title);
    attribute(node, 'data-tone', block.tone);
    text(node.lastChild, block.rendered);
    shown(node.lastChild, block.rendered !== '');
  });
}
