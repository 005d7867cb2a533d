// Two status documents and the time between them make rates, latencies and states: what `strata top` does, by the same rules.
//
// Counters of what was not there before, or of another process, begin at zero; so does one that went back. What is not known of an
// object is null, not zero. Pure: no element, no clock.

/** What `now` tells since `before`; both are status documents, `elapsedMs` is by the clock of this page. */
export function report(before, now, elapsedMs) {
  const same = before !== null && before.pid === now.pid && before.uptime_ms <= now.uptime_ms;
  // Of one process its own clock says it best: an answer that was late for its reader is no slower Strata.
  let span = null;
  if (same) span = now.uptime_ms - before.uptime_ms;
  else if (before !== null) span = Math.min(elapsedMs, now.uptime_ms);
  const seconds = span > 0 ? span / 1000 : null;
  const old = same ? before : null;
  const services = named(old?.services);
  const pools = named(old?.pools);
  const sources = new Map((now.sources ?? []).map((source) => [source.table, source]));
  return {
    seconds,
    another: before !== null && !same,
    services: now.services.map((service) => serviceRow(service, services.get(service.name), seconds)),
    pools: now.pools.map((pool) => ({ ...poolRow(pool, pools.get(pool.name), seconds), source: sources.get(`pool.${pool.name}`) ?? null })),
    packets: now.packets ? packetsRow(now.packets, old?.packets, seconds) : null,
    latency: latencyOfAll(now, services, seconds),
  };
}

const named = (all) => new Map((all ?? []).map((each) => [each.name, each]));

/** How much more it is; a count that went back began anew. */
export function risen(now, before) {
  return now >= before ? now - before : now;
}

function perSecond(now, before, seconds) {
  if (seconds === null || now === null || now === undefined) return null;
  return risen(now, before ?? 0) / seconds;
}

function serviceRow(now, before, seconds) {
  const of = (field) => perSecond(now[field], before?.[field], seconds);
  const requests = now.mode === 'l7';
  const drops = dropRates(now.drops, before?.drops, seconds);
  const unit = unitOf(now);
  const rates = { 'req/s': of('requests_total'), 'conn/s': of('connections_total'), 'pkt/s': of('packets_total') };
  return {
    said: now,
    name: now.name,
    unit,
    rate: rates[unit],
    connections: rates['conn/s'],
    requests: requests ? rates['req/s'] : null,
    packets: rates['pkt/s'],
    errors: requests ? of('server_errors_total') : null,
    received: of('bytes_received_total'),
    sent: of('bytes_sent_total'),
    drops,
    dropped: seconds === null ? null : drops.reduce((sum, drop) => sum + drop.perSecond, 0),
    ...quantiles(now.request_duration, before?.request_duration, seconds),
  };
}

/** What a service is counted by. */
function unitOf(service) {
  if (service.mode === 'l7') return 'req/s';
  return service.packets_total === null || service.packets_total === undefined ? 'conn/s' : 'pkt/s';
}

function poolRow(now, before, seconds) {
  const then = named(before?.endpoints);
  const proxied = Boolean(now.connect_duration);
  const endpoints = now.endpoints.map((each) => endpointRow(each, then.get(each.name), seconds, proxied));
  const responses = quantiles(now.response_duration, before?.response_duration, seconds);
  const latency = responses.p50 === null ? quantiles(now.connect_duration, before?.connect_duration, seconds) : responses;
  const marks = [[now.panic, 'panic'], [now.backup, 'backups'], [now.local, 'local']];
  return {
    said: now,
    name: now.name,
    proxied,
    endpoints,
    rate: total(endpoints.map((each) => each.rate)),
    errors: total(endpoints.map((each) => each.errors)),
    retries: proxied ? perSecond(now.retries_total, before?.retries_total, seconds) : null,
    marks: marks.filter(([is]) => is).map(([, word]) => word),
    timed: responses.p50 === null && !now.response_duration?.buckets.length ? 'connect ' : '',
    ...latency,
  };
}

function endpointRow(now, before, seconds, proxied) {
  const of = (field) => perSecond(now[field], before?.[field], seconds);
  const both = (each) => (each ? (each.packets_sent_total ?? 0) + (each.packets_received_total ?? 0) : 0);
  const packets = now.packets_sent_total === null || now.packets_sent_total === undefined ? null : perSecond(both(now), both(before), seconds);
  return {
    said: now,
    name: now.name,
    rate: proxied ? of('requests_total') : packets,
    packets,
    errors: proxied ? of('errors_total') : null,
    ...stateOf(now),
  };
}

/** What is seen, and what the operator wants where that is something else than work; as `strata status` has it. */
function stateOf(endpoint) {
  if (endpoint.leaving) return { state: `leaving (${endpoint.health})`, tone: 'warn' };
  if (endpoint.intent !== 'ready') return { state: `${endpoint.intent} (${endpoint.health})`, tone: 'warn' };
  const tone = { up: 'good', probing: 'warn' }[endpoint.health] ?? 'bad';
  return { state: endpoint.health + (endpoint.backup ? ' (backup)' : ''), tone };
}

export function weightOf(endpoint) {
  const warming = endpoint.warmth_percent ?? null;
  return warming === null ? `${endpoint.weight}` : `${endpoint.weight} (${warming} %)`;
}

function packetsRow(now, before, seconds) {
  const then = named(before?.interfaces);
  const interfaces = now.interfaces.map((each) => ({
    said: each,
    received: perSecond(each.frames_received_total, then.get(each.name)?.frames_received_total, seconds),
    sent: perSecond(each.frames_sent_total, then.get(each.name)?.frames_sent_total, seconds),
    lost: dropRates(each.lost, then.get(each.name)?.lost, seconds),
  }));
  return { said: now, drops: dropRates(now.drops, before?.drops, seconds), interfaces };
}

/** By reason, those of now first. */
function dropRates(now, before, seconds) {
  const then = new Map((before ?? []).map((drop) => [drop.reason, drop.count]));
  const rates = (now ?? []).map((drop) => ({
    reason: drop.reason,
    total: drop.count,
    perSecond: perSecond(drop.count, then.get(drop.reason), seconds),
  }));
  return rates.sort((a, b) => (b.perSecond ?? 0) - (a.perSecond ?? 0) || b.total - a.total);
}

/** Of those that are known; null where none is. */
export function total(values) {
  const known = values.filter((value) => value !== null);
  return known.length === 0 ? null : known.reduce((sum, more) => sum + more, 0);
}

function quantiles(now, before, seconds) {
  if (!now || seconds === null) return { p50: null, p99: null };
  const more = rise(now, before);
  return { p50: quantile(more, 50), p99: quantile(more, 99) };
}

function rise(now, before) {
  const then = new Map((before?.buckets ?? []).map((bucket) => [bucket.from_us, bucket.count]));
  return now.buckets.map((bucket) => ({
    from: bucket.from_us,
    to: bucket.to_us ?? bucket.from_us,
    count: risen(bucket.count, then.get(bucket.from_us) ?? 0),
  }));
}

/** Of whole requests, over all services. */
function latencyOfAll(now, before, seconds) {
  if (seconds === null) return { p50: null, p99: null };
  const sums = new Map();
  for (const service of now.services) {
    if (!service.request_duration) continue;
    for (const bucket of rise(service.request_duration, before.get(service.name)?.request_duration)) {
      const sum = sums.get(bucket.from);
      if (sum) sum.count += bucket.count;
      else sums.set(bucket.from, bucket);
    }
  }
  const all = [...sums.values()].sort((a, b) => a.from - b.from);
  return { p50: quantile(all, 50), p99: quantile(all, 99) };
}

/** As Prometheus estimates it: evenly spread within a bucket; beyond the bounds, the last bound. */
export function quantile(buckets, percent) {
  const all = buckets.reduce((sum, bucket) => sum + bucket.count, 0);
  const rank = (all * percent) / 100;
  let below = 0;
  for (const { from, to, count } of buckets) {
    if (count === 0) continue;
    if (below + count >= rank) return Math.round(from + Math.max(0, to - from) * ((rank - below) / count));
    below += count;
  }
  return null;
}
