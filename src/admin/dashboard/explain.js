// What becomes of a request or a packet, told step by step: the answer of `GET /api/explain`, in the words of `strata explain`.

import { get } from './api.js';
import { byId, el } from './dom.js';

const ENDPOINTS_LISTED = 24;
/** What a verdict may be, where something goes on. */
const GOOD = new Set(['forward', 'send', 'reply', 'divide']);
const FATES = { loses: 'loses', 'other-host': 'misses', 'other-path': 'misses' };
const SERVING = {
  panic: 'panic: so few are usable that all serve but what the operator took out',
  backup: 'no primary is usable: backups serve',
  local: "enough of this node's zone are usable: only they serve",
};

/** Makes the form ask. */
export function prepare() {
  byId('explain-form').addEventListener('submit', async (event) => {
    event.preventDefault();
    const box = byId('explained');
    box.setAttribute('aria-busy', 'true');
    try {
      box.replaceChildren(tell(await get(`explain?${question(new FormData(event.target))}`)));
    } catch (error) {
      // Its help is of the API's addresses; here the form says how to ask.
      box.replaceChildren(el('p', { class: 'notice', 'data-tone': 'bad' }, error.message));
    }
    box.removeAttribute('aria-busy');
  });
}

/** The services there are, to choose from. */
export function offer(status) {
  const names = status.services.map((service) => service.name);
  const select = byId('explain-form').elements.service;
  if (select.offered === names.join('\n')) return;
  select.offered = names.join('\n');
  const chosen = select.value;
  select.replaceChildren(el('option', { value: '' }, 'by its address'), ...names.map((name) => el('option', { value: name }, name)));
  if (names.includes(chosen)) select.value = chosen;
}

function question(form) {
  const query = new URLSearchParams();
  for (const key of ['what', 'from', 'service', 'in']) {
    const value = form.get(key)?.trim();
    if (value) query.append(key, value);
  }
  for (const line of (form.get('headers') ?? '').split('\n')) {
    if (line.trim()) query.append('header', line.trim());
  }
  return query;
}

function tell(answer) {
  const steps = answer.kind === 'packet' ? packet(answer.story) : request(answer);
  return el('ol', { class: 'steps' }, steps.filter(Boolean));
}

/** One step: its name, what was decided, and why or what besides. */
function step(name, title, { tone = 'none', lines = [], inside = [] } = {}) {
  const said = lines.filter(Boolean).map((line) => el('p', {}, line));
  return el('li', { 'data-tone': tone }, el('span', { class: 'step-name' }, name), el('div', { class: 'step-body' }, el('strong', {}, title), said, inside));
}

function request(story) {
  const { request, from, from_imagined, listener, service, route, others, others_left_out, sent, pool, choice, verdict } = story;
  const read = request?.host ? `read as ${request.method ?? ''} ${request.host}${request.path ?? ''}` : null;
  return [
    request ? step('request', request.asked, { lines: [read] }) : step('connection', 'a connection, whose content is not read'),
    step('from', from, { lines: [from_imagined && 'somebody: name the client above'] }),
    listener && step('listener', listener.address, { lines: [!listener.reached && 'not by this address: the service was named'] }),
    service && step('service', service.name, { lines: [service.mode] }),
    routes(route, others ?? [], others_left_out),
    sent && step('sends', sent.line, {
      lines: [sent.line_changed && 'not as the client wrote it', sent.trusted && 'the client is one of `trusted_proxies`: what it says of its own clients is kept'],
      inside: [el('ul', { class: 'fields' }, [...sent.removed.map((line) => el('li', { class: 'removed' }, `- ${line}`)), ...sent.added.map((line) => el('li', { class: 'added' }, `+ ${line}`))])],
    }),
    pool && poolStep(pool, choice),
    choice && step('choice', choice.endpoint ? `${choice.endpoint}, certain` : 'by chance', {
      tone: 'good',
      lines: [choice.key ? `${choice.how}: ${choice.key}` : choice.how, ...choice.notes],
    }),
    verdictStep(verdict.action, [verdict.why, verdict.status && `status ${verdict.status}`], verdict, target(choice, pool)),
  ];
}

const target = (choice, pool) => (choice?.endpoint ? `to ${choice.endpoint}` : choice && pool ? `to pool ${pool.name}` : null);

function routes(route, others, leftOut) {
  if (!route && others.length === 0) return null;
  const place = (each) => (each.file ? `${each.file}:${each.line}` : `line ${each.line}`);
  const row = (each, word) => el('tr', {}, el('td', { class: 'mono' }, each.url), el('td', {}, `pool ${each.pool}`), el('td', { class: 'mono' }, place(each)), el('td', {}, `${word}: ${each.why}`));
  const rows = others.map((each) => row(each, FATES[each.fate] ?? each.fate));
  const more = leftOut > 0 ? el('p', { class: 'muted' }, `and ${leftOut} more that lose or nearly match`) : null;
  const rest = rows.length > 0 ? el('details', { open: rows.length <= 4 || !route }, el('summary', {}, `${rows.length} that lose or nearly match`), el('div', { class: 'scroll' }, el('table', {}, el('tbody', {}, rows))), more) : null;
  if (!route) return step('route', 'none takes it', { tone: 'bad', inside: [rest] });
  return step('route', `${route.url} to pool ${route.pool}`, { lines: [`${place(route)}: wins: ${route.why}`], inside: [rest] });
}

function poolStep(pool, choice) {
  const lines = pool.serving.map((word) => SERVING[word] ?? word);
  if (pool.most_in_flight) lines.push(`each carries at most ${pool.most_in_flight} at once; what does not fit waits, or is refused`);
  const candidates = pool.endpoints.map((each) => ({
    name: each.name,
    picked: choice?.endpoint === each.name,
    state: `${each.intent}, ${each.health}`,
    usable: each.usable,
    chance: each.usable ? (choice?.endpoint ? (choice.endpoint === each.name ? 100 : 0) : each.chance) : 0,
    facts: [`weight ${each.weight}`, each.in_flight !== null && `in flight ${each.in_flight}`, score(each), each.full && 'full', each.trial && 'on trial: one at a time', each.backup && 'backup', !each.usable && `not usable${each.cause ? `: ${each.cause}` : ''}`],
  }));
  return step('pool', `${pool.name}: ${pool.balance}, ${pool.usable} of ${pool.endpoints.length} usable`, { lines, inside: [table(candidates)], tone: pool.usable === 0 ? 'bad' : 'none' });
}

const score = (each) => each.score !== null && each.score_name && `${each.score_name} ${Number(each.score.toPrecision(3))}${each.score_unit ? ` ${each.score_unit}` : ''}`;

/** Who might get it, how likely, and what is known of each. */
function table(candidates) {
  const listed = candidates.filter((each, at) => at < ENDPOINTS_LISTED || each.picked);
  const rows = listed.map((each) => {
    const fill = el('i');
    fill.style.width = `${Math.min(100, each.chance)}%`;
    const percent = each.chance >= 1 ? `${Math.round(each.chance)} %` : each.chance > 0 ? '<1 %' : '-';
    const facts = each.facts.filter(Boolean).join(', ');
    return el('tr', { 'data-picked': each.picked, 'data-usable': each.usable }, el('td', { class: 'mono' }, `${each.picked ? '> ' : ''}${each.name}`), el('td', {}, each.state), el('td', { class: 'chance' }, el('span', { class: 'share' }, fill), percent), el('td', {}, facts));
  });
  const more = candidates.length > listed.length ? el('p', { class: 'muted' }, `and ${candidates.length - listed.length} more`) : null;
  return el('div', { class: 'scroll' }, el('table', {}, el('tbody', {}, rows)), more);
}

function verdictStep(action, words, { meaning, way_out }, to) {
  const tone = GOOD.has(action) ? 'good' : action === 'pass' ? 'none' : 'bad';
  const title = [[action, to].filter(Boolean).join(' '), ...words.filter(Boolean)].join(', ');
  return step('verdict', title, { tone, lines: [meaning, way_out && `way out: ${way_out}`] });
}

function packet(story) {
  const { vip, no_vip, service, no_service, pool, slot, verdict, before, after, imagined } = story;
  const candidates = pool?.endpoints.map((each) => ({
    name: each.name,
    picked: each.picked,
    state: `${each.intent}, ${each.health}`,
    usable: each.health === 'up' && each.intent === 'ready',
    chance: each.share,
    facts: [`weight ${each.weight}`, `${each.share} % of the slots`],
  }));
  return [
    step('packet', story.packet, { lines: [`in by ${story.interface}`] }),
    vip && step('vip', `${vip.name}: ${vip.address}`, { lines: [`on ${vip.interface}, answered for at ${vip.mac}`] }),
    no_vip && step('vip', no_vip, { tone: 'bad' }),
    service && step('service', service.name, { lines: [`${service.mode}${service.forward === 'mac' ? '' : ` ${service.forward}`}; ${service.why}`] }),
    no_service && step('service', no_service, { tone: 'bad' }),
    pool && step('pool', `${pool.name}: ${pool.balance}`, { inside: [table(candidates)] }),
    slot && step('slot', `${slot.slot} of ${slot.slots}`, { lines: [`by the hash of ${slot.by} (${slot.hash}); it names ${slot.endpoint ?? 'nobody'}`] }),
    verdictStep(verdict.action, [verdict.why], { meaning: [verdict.meaning, verdict.what].filter(Boolean).join('; '), way_out: verdict.way_out }, verdict.endpoint && `to ${verdict.endpoint}`),
    step('before', before),
    after && step('after', after),
    step('note', imagined),
  ];
}
