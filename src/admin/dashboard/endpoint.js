// One endpoint: all that is known of it, and what an operator may do to it.
//
// A button does it at once, unless that takes the last usable endpoint of its pool: then it asks. A key (d, m, r) always asks, for
// keys are pressed by mistake. What came of it is what the API said, not what was hoped for.

import { Refused, endpointPath, get, post } from './api.js';
import { attribute, count, el, rate, shown, size, span, text } from './dom.js';
import { facts } from './flow.js';
import { weightOf } from './rates.js';

/** The operations of the API, with what they mean. */
const OPERATIONS = {
  drain: { word: 'Drain', means: 'no new work; what is open finishes', done: 'draining' },
  maintain: { word: 'Maintain', means: 'out of service at once, and not probed', done: 'in maintenance' },
  restore: { word: 'Restore', means: 'as the file says', done: 'restored' },
};
export const KEYS = { d: 'drain', m: 'maintain', r: 'restore', w: 'weight' };

export class EndpointDialog {
  /** `onChange(sentence)` when something was changed. */
  constructor(dialog, onChange) {
    this.dialog = dialog;
    this.onChange = onChange;
    this.target = null;
    this.report = null;
    this.build();
    // The event comes later: by then it may be open for another endpoint.
    dialog.addEventListener('close', () => dialog.open || (this.target = null));
  }

  build() {
    const button = (name) =>
      el('button', { type: 'button', 'data-operation': name, title: OPERATIONS[name].means, onclick: () => this.ask(name, false) }, OPERATIONS[name].word);
    const input = el('input', { type: 'number', min: 1, max: 1000, step: 1, required: true, id: 'weight', inputmode: 'numeric' });
    const parts = {
      // It has the focus first: an Enter that is held down must not press a button.
      title: el('h2', { id: 'endpoint-title', tabindex: -1, autofocus: true }),
      pool: el('p', { class: 'muted' }),
      facts: el('dl', { class: 'facts-list' }),
      question: el('p', { id: 'question' }),
      yes: el('button', { type: 'button', class: 'danger' }),
      no: el('button', { type: 'button', onclick: () => this.cancel() }, 'Cancel'),
      buttons: Object.keys(OPERATIONS).map(button),
      input,
      weight: el('form', { class: 'weight' }, el('label', {}, el('span', {}, 'Weight'), input), el('button', { type: 'submit' }, 'Set')),
      readOnly: el('p', { class: 'muted' }, 'The admin API is read-only here: nothing can be changed.'),
      outcome: el('p', { class: 'outcome', role: 'status' }),
    };
    parts.asking = el('div', { class: 'asking', role: 'group', 'aria-labelledby': 'question', hidden: true }, parts.question, el('div', { class: 'actions' }, parts.no, parts.yes));
    parts.actions = el('div', { class: 'actions' }, parts.buttons, parts.weight);
    parts.yes.addEventListener('click', () => this.answer(this.asked, this.warned));
    parts.weight.addEventListener('submit', (event) => {
      event.preventDefault();
      this.setWeight();
    });
    const close = el('button', { type: 'button', class: 'close', onclick: () => this.dialog.close() }, 'Close');
    this.parts = parts;
    this.dialog.append(parts.title, parts.pool, parts.facts, parts.asking, parts.actions, parts.readOnly, parts.outcome, el('div', { class: 'actions end' }, close));
    // A click beside it closes it.
    this.dialog.addEventListener('click', (event) => event.target === this.dialog && this.dialog.close());
  }

  /** Opens it for an endpoint; `key` is what was pressed, if anything. */
  open(target, key) {
    this.target = target;
    this.said('', null);
    this.cancel();
    this.fill(true);
    if (!this.dialog.open) this.dialog.showModal();
    if (this.readOnly || !key) return;
    if (KEYS[key] === 'weight') this.parts.input.select();
    else this.ask(KEYS[key], true);
  }

  cancel() {
    shown(this.parts.asking, false);
    this.parts.title.focus();
  }

  show(report, readOnly) {
    [this.report, this.readOnly] = [report, readOnly];
    if (this.dialog.open) this.fill(false);
  }

  find() {
    const pool = this.report?.pools.find((each) => each.name === this.target?.pool);
    return { pool, endpoint: pool?.endpoints.find((each) => each.name === this.target?.endpoint) };
  }

  fill(fresh) {
    const { title, pool: poolLine, facts: list, actions, readOnly, input } = this.parts;
    const { pool, endpoint } = this.find();
    text(title, this.target.endpoint);
    if (!endpoint) return text(poolLine, `pool ${this.target.pool}: it is no longer there`);
    const { said } = endpoint;
    text(poolLine, `pool ${pool.name}${said.address === said.name ? '' : `, ${said.address}`}`);
    facts(list, [
      ['state', `${endpoint.state}, for ${span(said.since_ms)}`, endpoint.tone],
      ['new work', said.usable ? 'may go there' : 'does not go there', said.usable ? 'good' : 'warn'],
      ['cause', said.cause ?? '-'],
      ['weight', weightOf(said)],
      ['rate', `${rate(endpoint.rate)}/s`],
      pool.proxied && ['in flight', count(said.in_flight)],
      pool.proxied && ['connections open', count(said.connections)],
      pool.proxied && ['requests', count(said.requests_total)],
      pool.proxied && ['errors', count(said.errors_total), said.errors_total > 0 ? 'warn' : null],
      said.packets_sent_total !== null && ['packets to it', `${count(said.packets_sent_total)}, ${size(said.bytes_sent_total)}`],
      said.packets_received_total !== null && ['packets from it', `${count(said.packets_received_total)}, ${size(said.bytes_received_total)}`],
      pool.said.probe && ['probes failed', count(said.probes_failed_total)],
      said.next_probe_ms !== null && ['next probe', `in ${span(said.next_probe_ms)}`],
      said.zone && ['zone', said.zone],
    ]);
    shown(actions, !this.readOnly);
    shown(readOnly, Boolean(this.readOnly));
    if (fresh) input.value = said.weight;
  }

  /** Asks where it should be asked, and else does it. */
  ask(operation, always) {
    const warning = operation === 'restore' ? null : this.lastOne(this.report?.pools.map((pool) => pool.said) ?? []);
    if (warning || always) this.question(operation, warning);
    else this.answer(operation, false);
  }

  question(operation, warning) {
    const { word, means } = OPERATIONS[operation];
    [this.asked, this.warned] = [operation, warning !== null];
    text(this.parts.question, `${word} ${this.target.endpoint}? ${warning ?? `${means}.`}`);
    text(this.parts.yes, warning ? `${word} all the same` : word);
    attribute(this.parts.asking, 'data-tone', warning ? 'bad' : 'none');
    shown(this.parts.asking, true);
    // What costs the service has its way out first.
    (warning ? this.parts.no : this.parts.yes).focus();
  }

  /** What taking the endpoint out of these pools would mean, where nothing would be left. */
  lastOne(pools) {
    const pool = pools.find((each) => each.name === this.target.pool);
    const endpoint = pool?.endpoints.find((each) => each.name === this.target.endpoint);
    if (!endpoint?.usable || pool.usable !== 1) return null;
    const standby = pool.endpoints.some((each) => each !== endpoint && each.intent === 'ready' && each.health === 'up' && !each.leaving);
    if (standby) return null;
    const users = this.report.services.filter((service) => service.said.pools.includes(pool.name)).map((service) => service.name);
    return `It is the last usable endpoint of ${pool.name}: ${users.join(', ') || 'nobody'} would have nowhere to send to.`;
  }

  /** Does it, or nothing. What is shown may be old: whether it is the last one is looked at once more. */
  async answer(operation, warned) {
    shown(this.parts.asking, false);
    const target = this.target;
    if (!target) return;
    if (operation !== 'restore' && !warned) {
      const pools = await get('pools').catch((error) => error);
      const warning = pools instanceof Error ? `Whether it is the last usable endpoint is not known: ${pools.message}.` : this.lastOne(pools);
      if (this.target !== target) return;
      if (warning) return this.question(operation, warning);
    }
    const { pool, endpoint } = target;
    await this.change(`${endpoint} of ${pool}: ${OPERATIONS[operation].done}`, endpointPath(pool, endpoint, operation));
    if (this.dialog.open) this.parts.title.focus();
  }

  async setWeight() {
    const { pool, endpoint } = this.target;
    const weight = Number(this.parts.input.value);
    await this.change(`${endpoint} of ${pool}: weight ${weight}`, endpointPath(pool, endpoint, 'weight'), { weight });
  }

  async change(sentence, path, body) {
    this.said('…', null);
    try {
      await post(path, body);
      this.said(sentence, 'good');
      this.onChange(sentence);
    } catch (error) {
      const help = error instanceof Refused && error.help ? ` (${error.help})` : '';
      this.said(`${error.message}${help}`, 'bad');
    }
  }

  said(sentence, tone) {
    text(this.parts.outcome, sentence);
    attribute(this.parts.outcome, 'data-tone', tone);
  }
}
