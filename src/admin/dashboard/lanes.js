// What belongs together is drawn together: services that share a pool or a VIP, with those, are one lane. Pure: no element.
//
// How much goes from a service to a pool is not counted where several services share several pools: then it is not known, and not
// guessed. Everywhere else it follows from what goes in and what comes out.

/** The lanes of a report, in the order of the file. */
export function lanes(report, vips) {
  const parent = new Map();
  const find = (key) => {
    let root = key;
    while (parent.get(root) !== root) root = parent.get(root);
    while (parent.get(key) !== root) {
      const next = parent.get(key);
      parent.set(key, root);
      key = next;
    }
    return root;
  };
  const touch = (key) => parent.has(key) || parent.set(key, key);
  const join = (a, b) => {
    touch(a);
    touch(b);
    parent.set(find(b), find(a));
  };
  for (const { said } of report.services) {
    touch(`service ${said.name}`);
    for (const pool of said.pools) join(`service ${said.name}`, `pool ${pool}`);
    if (said.vip) join(`service ${said.name}`, `vip ${said.vip}`);
  }
  for (const pool of report.pools) touch(`pool ${pool.name}`);
  for (const vip of vips) touch(`vip ${vip.name}`);
  const found = new Map();
  const lane = (key) => {
    const root = find(key);
    if (!found.has(root)) found.set(root, { key: root, services: [], pools: [], vips: [] });
    return found.get(root);
  };
  for (const service of report.services) lane(`service ${service.name}`).services.push(service);
  for (const pool of report.pools) lane(`pool ${pool.name}`).pools.push(pool);
  for (const vip of vips) lane(`vip ${vip.name}`).vips.push(vip);
  return [...found.values()].map(finish);
}

function finish(lane) {
  const { services, vips } = lane;
  // As services name them, so that fewer curves cross.
  const used = services.flatMap((service) => service.said.pools);
  const place = (pool) => (used.indexOf(pool.name) + used.length + 1) % (used.length + 1);
  const pools = lane.pools.toSorted((a, b) => place(a) - place(b));
  // Of what is in it, not of what joined it first: it stays itself when a reload adds to it.
  const key = services[0] ? `service ${services[0].name}` : pools[0] ? `pool ${pools[0].name}` : `vip ${vips[0].name}`;
  return { ...lane, pools, key, entries: entries(lane), ...links(services, pools) };
}

/** Where clients come in: a VIP with the services behind it, or what a service listens on. */
function entries({ services, vips }) {
  const known = new Set(vips.map((vip) => vip.name));
  const ofVips = vips.map((vip) => ({
    key: `vip ${vip.name}`,
    vip,
    services: services.filter((service) => service.said.vip === vip.name),
  }));
  const own = services
    .filter((service) => !known.has(service.said.vip))
    .map((service) => ({ key: `service ${service.name}`, vip: null, services: [service] }));
  return [...ofVips, ...own];
}

/** What goes from services to pools. What is known on one side of a link, less what is known of its others, is known. */
function links(services, pools) {
  const rows = new Map(pools.map((pool) => [pool.name, pool]));
  const all = services.flatMap((service) =>
    service.said.pools.filter((pool) => rows.has(pool)).map((pool) => ({ service, pool: rows.get(pool), rate: null })),
  );
  const ends = (key) => [...new Set(all.map((link) => link[key]))];
  const sides = [
    ...ends('service').map((end) => ({ rate: end.rate, links: all.filter((link) => link.service === end) })),
    ...ends('pool').map((end) => ({ rate: end.rate, links: all.filter((link) => link.pool === end) })),
  ];
  for (let again = true; again; ) {
    again = false;
    for (const { rate, links } of sides) {
      const open = links.filter((link) => link.rate === null);
      if (open.length !== 1 || rate === null) continue;
      open[0].rate = Math.max(0, rate - links.reduce((sum, link) => sum + (link.rate ?? 0), 0));
      again = true;
    }
  }
  return { links: all };
}

/** Routes by the pool that they lead to, in the order of the file. */
export function ways(service) {
  const groups = new Map(service.pools.map((pool) => [pool, []]));
  for (const route of service.routes) groups.get(route.pool)?.push(route);
  return [...groups].map(([pool, routes]) => ({ pool, routes }));
}

/** Why somebody should look at it, worst first; nothing where all is well. */
export function troubles(lane) {
  const found = [];
  for (const service of lane.services) {
    if (service.said.engine === 'none') found.push({ tone: 'bad', text: `${service.name}: nothing carries it` });
    if (service.errors > 0) found.push({ tone: 'bad', text: `${service.name}: 5xx` });
    if (service.dropped > 0) found.push({ tone: 'bad', text: `${service.name}: drops` });
  }
  for (const pool of lane.pools) {
    if (pool.said.usable === 0) found.push({ tone: 'bad', text: `${pool.name}: no endpoint is usable` });
    else if (pool.endpoints.some((each) => each.tone === 'bad')) found.push({ tone: 'bad', text: `${pool.name}: endpoints are down` });
    else if (pool.endpoints.some((each) => each.tone === 'warn')) found.push({ tone: 'warn', text: `${pool.name}: not all are up` });
    if (pool.errors > 0) found.push({ tone: 'bad', text: `${pool.name}: errors` });
    if (pool.said.panic) found.push({ tone: 'bad', text: `${pool.name}: panic` });
    if (pool.said.backup) found.push({ tone: 'warn', text: `${pool.name}: backups serve` });
    if (pool.source && !pool.source.up) found.push({ tone: 'warn', text: `${pool.name}: its source does not answer` });
    if (pool.said.queue > 0) found.push({ tone: 'warn', text: `${pool.name}: requests wait` });
  }
  for (const vip of lane.vips) {
    if (!vip.owner) found.push({ tone: 'bad', text: `${vip.name}: not the owner` });
  }
  return found;
}

/** A lane as far as the filter wants it; null where it does not. Of pools that only endpoints speak for, those endpoints. */
export function chosen(lane, filter, onlyTrouble) {
  if (onlyTrouble && troubles(lane).length === 0) return null;
  const words = filter.toLowerCase();
  if (words === '') return { lane, endpoints: null };
  const has = (...texts) => texts.some((text) => text && String(text).toLowerCase().includes(words));
  const whole =
    lane.services.some((each) => has(each.name, each.said.mode, each.said.forward, each.said.engine, ...each.said.listen, ...each.said.routes.map((route) => route.url))) ||
    lane.pools.some((each) => has(each.name, each.said.balance, ...each.marks)) ||
    lane.vips.some((each) => has(each.name, each.interface, ...each.addresses.map((at) => at.address)));
  if (whole) return { lane, endpoints: null };
  const endpoint = (each) => has(each.name, each.state, each.said.cause, each.said.zone);
  const found = lane.pools.flatMap((pool) => pool.endpoints.filter(endpoint));
  return found.length > 0 ? { lane, endpoints: new Set(found.map((each) => each.said)) } : null;
}
