// The dashboard's wiring: looks once a second at one document (`/api/status`), shows it, and takes keys.
//
// Only one look is under way; a Strata that takes long is asked less often. When nobody answers, what is shown says how old it is,
// and is asked for again: a restart, an upgrade and a network that comes back need no reload of the page.

import { Refused, Unreachable, get, token } from './api.js';
import { follow } from './changes.js';
import { attribute, byId, el, keep, keyed, recalled, shown, span, text } from './dom.js';
import { EndpointDialog, KEYS } from './endpoint.js';
import { offer, prepare } from './explain.js';
import { Flow } from './flow.js';
import { showDrops, showPackets, showState, showTiles } from './overview.js';
import { report } from './rates.js';

const INTERVAL_MS = 1000;
/** A look may take this share of the time. */
const SHARE = 4;
/** Rates are over this many looks, so that a quiet service does not flicker. */
const WINDOW = 3;
/** What is older than this is not called live; where looks are as slow as the last one was, what is older than two of them. */
const STALE_MS = 3500;

const page = { looks: [], version: null, paused: false, trouble: null, timer: null, due: 0, looking: false, notices: new Map() };
const flow = new Flow(byId('lanes'), (target, key) => dialog.open(target, key));
const dialog = new EndpointDialog(byId('endpoint'), (sentence) => {
  say(sentence);
  // Who pauses the page wants to see what he does all the same.
  look(true);
});

/** One look, then the next. */
async function look(although = false) {
  if (page.looking || (page.paused && !although) || document.hidden) return;
  clearTimeout(page.timer);
  page.looking = true;
  const began = performance.now();
  let wait = INTERVAL_MS;
  try {
    const status = await get('status');
    const at = performance.now();
    page.due = Math.max(INTERVAL_MS, SHARE * (at - began));
    wait = page.due - (at - began);
    received(status, at);
    page.trouble = null;
    await follow(status).then(() => notice('follow', null), unfollowed);
  } catch (error) {
    wait = trouble(error) ? INTERVAL_MS : null;
  }
  page.looking = false;
  tick();
  if (wait !== null) lookSoon(wait);
}

function lookSoon(ms) {
  clearTimeout(page.timer);
  page.timer = setTimeout(() => look(), ms);
}

function received(status, at) {
  const last = page.looks.at(-1);
  if (last && last.status.pid !== status.pid) {
    say(`process ${status.pid} answers now; before it was ${last.status.pid}`);
    page.looks = [last];
  }
  const before = page.looks[0] ?? null;
  const told = report(before?.status ?? null, status, before ? at - before.at : 0);
  if (told.another) page.looks = [];
  page.looks = [...page.looks, { status, at }].slice(-WINDOW);
  page.last = { status, told };
  showState(status);
  showTiles(told, status);
  filterSaid(flow.show(told, status.vips));
  showPackets(told);
  showDrops(told);
  offer(status);
  dialog.show(told, status.read_only);
  notices(status);
}

/** The status is here, and what happened is not: that is another trouble. */
function unfollowed(error) {
  if (error instanceof Refused && error.status === 401) throw error;
  if (!(error instanceof Refused || error instanceof Unreachable)) console.error(error);
  notice('follow', `What has changed cannot be shown: ${error.message}.`, 'warn');
}

/** Whether to go on asking. */
function trouble(error) {
  if (error instanceof Refused && error.status === 401) {
    askToken();
    return false;
  }
  const known = error instanceof Refused || error instanceof Unreachable;
  if (!known) console.error(error);
  const what = known ? `Strata does not answer: ${error.message}` : `This page has a mistake: ${error.message}`;
  page.trouble = error.help ? `${what} (${error.help})` : what;
  return true;
}

/** What the operator must know before anything else. */
function notices(status) {
  page.version ??= status.version;
  notice('reload', !status.last_reload_successful && `The last reload was rejected: generation ${status.generation} serves on. Diagnostics says why.`, 'bad');
  notice('static', status.probes_static && 'Probes reach nobody, and this machine is cut off: endpoints keep the state they had.', 'bad');
  const failing = (status.sources ?? []).filter((source) => !source.up && source.failure).map((source) => `${source.table} (${source.failure})`);
  notice('sources', failing.length > 0 && `A source does not answer, and what it found last stays in force: ${failing.join(', ')}.`, 'warn');
  notice('draining', status.draining && 'This Strata drains: it takes no new connections.', 'warn');
  notice('warnings', status.warnings > 0 && status.last_reload_successful && `${status.warnings} warning${status.warnings === 1 ? '' : 's'} of the configuration in force: see Diagnostics.`, 'warn');
  notice('version', page.version !== status.version && `Strata ${status.version} answers; this page is of ${page.version}. Load it again.`, 'warn');
}

function notice(key, what, tone) {
  if (what) page.notices.set(key, { key, what, tone });
  else page.notices.delete(key);
  const all = [...page.notices.values()];
  keyed(byId('notices'), all, (each) => each.key, () => el('p', { class: 'notice' }), (node, each) => {
    text(node, each.what);
    attribute(node, 'data-tone', each.tone);
  });
}

/** How old what is shown is; each second, whether anybody answers or not. */
function tick() {
  const last = page.looks.at(-1);
  const age = last ? performance.now() - last.at : null;
  const stale = age === null ? page.trouble !== null : age > (page.trouble ? STALE_MS : Math.max(STALE_MS, 2 * page.due));
  attribute(document.body, 'data-stale', stale && !page.paused);
  const word = page.paused ? 'paused' : stale ? 'stale' : last ? 'live' : 'connecting';
  text(byId('age'), age !== null && (stale || page.paused) ? `${word}, ${span(age)} old` : word);
  attribute(byId('age'), 'data-tone', page.paused ? 'warn' : stale ? 'bad' : last ? 'good' : 'none');
  const lost = page.trouble && (stale || !last) ? `${page.trouble}. Trying again; what is shown is what was last known.` : null;
  notice('lost', !page.paused && lost, 'bad');
}

function say(sentence) {
  text(byId('spoken'), sentence);
}

function askToken() {
  const wrong = token.isKept();
  token.forget();
  text(byId('token-wrong'), wrong ? 'This is not the token of the admin API.' : '');
  shown(byId('token-wrong'), wrong);
  if (byId('endpoint').open) byId('endpoint').close();
  if (!byId('token').open) byId('token').showModal();
}

function filterSaid(lanes) {
  if (!lanes) return;
  const filtered = flow.filter !== '' || flow.onlyTrouble;
  text(byId('shown'), filtered ? `${lanes.shown} of ${lanes.all} shown` : '');
  shown(byId('empty'), lanes.shown === 0);
  const none = flow.onlyTrouble && flow.filter === '' ? 'All is well: every endpoint is up, and nothing fails.' : 'Nothing here has that.';
  text(byId('empty'), filtered ? none : 'There is no service, pool or VIP in the configuration.');
}

const actions = {
  filter: () => byId('filter').select(),
  explain: () => byId('what').select(),
  changes: () => byId('changes-list').focus(),
  help: () => byId('help').open || byId('help').showModal(),
  pause() {
    page.paused = !page.paused;
    attribute(byId('pause'), 'aria-pressed', page.paused);
    tick();
    lookSoon(0);
  },
  theme() {
    const order = ['auto', 'dark', 'light'];
    const now = document.documentElement.dataset.theme ?? 'auto';
    setTheme(order[(order.indexOf(now) + 1) % order.length]);
  },
  trouble() {
    flow.onlyTrouble = !flow.onlyTrouble;
    attribute(byId('trouble'), 'aria-pressed', flow.onlyTrouble);
    filterSaid(flow.again());
  },
  expand() {
    const open = byId('expand').dataset.open !== 'true';
    byId('expand').dataset.open = open;
    text(byId('expand'), open ? 'Collapse all' : 'Expand all');
    flow.openAll(open);
  },
};
const SHORTCUTS = { '/': 'filter', e: 'explain', c: 'changes', '?': 'help', p: 'pause', t: 'theme', x: 'trouble', o: 'expand' };

function setTheme(theme) {
  if (theme === 'auto') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  keep('localStorage', 'strata-theme', theme);
  text(byId('theme'), `Theme: ${theme}`);
}

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector('dialog[open]')) return;
  if (event.target.closest('input, textarea, select')) {
    if (event.target.id === 'filter') leaveFilter(event);
    return;
  }
  const step = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1 }[event.key];
  const focused = flow.focused();
  const arrow = event.key.startsWith('Arrow');
  // Arrows scroll the page, unless an endpoint has the focus.
  if (step && (!arrow || focused)) flow.step(step);
  else if (focused && KEYS[event.key]) dialog.open(focused, event.key);
  else if (SHORTCUTS[event.key]) actions[SHORTCUTS[event.key]]();
  else return;
  event.preventDefault();
}

/** Esc shows all again, Enter goes to the first endpoint that was found. */
function leaveFilter(event) {
  if (event.key === 'Escape') setFilter('');
  else if (event.key !== 'Enter') return;
  event.preventDefault();
  byId('filter').blur();
  if (event.key === 'Enter') flow.step(1);
}

function setFilter(value) {
  if (byId('filter').value !== value) byId('filter').value = value;
  flow.filter = value.trim();
  filterSaid(flow.again());
}

function begin() {
  setTheme(['dark', 'light'].find((theme) => theme === recalled('localStorage', 'strata-theme')) ?? 'auto');
  prepare();
  document.addEventListener('keydown', pressed);
  document.addEventListener('visibilitychange', () => document.hidden || lookSoon(0));
  byId('filter').addEventListener('input', (event) => setFilter(event.target.value));
  // However it is closed: without the token Strata asks for it again.
  byId('token').addEventListener('close', () => {
    const given = byId('token-input').value.trim();
    if (given) token.keep(given);
    byId('token-input').value = '';
    lookSoon(0);
  });
  for (const [id, action] of [['pause', 'pause'], ['theme', 'theme'], ['help-button', 'help'], ['trouble', 'trouble'], ['expand', 'expand']]) {
    byId(id).addEventListener('click', actions[action]);
  }
  setInterval(tick, 1000);
  look();
}

begin();
