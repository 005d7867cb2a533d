//! Wiring: `strata demo`: three echo endpoints, an L7 and an L4 service over them, metrics and admin, on free loopback ports.

use std::net::{Ipv4Addr, TcpListener as StdListener};
use std::process::ExitCode;

use anyhow::Context as _;
use tokio::net::TcpListener;

use super::{echo, run, say};
use crate::app::load::Origin;
use crate::app::supervisor::{Beginning, Supervisor};
use crate::observe::sink::Sink;

pub fn demo() -> anyhow::Result<ExitCode> {
    let endpoints: Vec<StdListener> = (0..3).map(|_| loopback()).collect::<anyhow::Result<_>>()?;
    let ports = endpoints.iter().map(port).collect::<anyhow::Result<Vec<_>>>()?;
    let [http, tcp, metrics, admin] = free_ports()?;
    let text = configuration(&ports, http, tcp, metrics, admin);
    let origin = Origin::Text { name: "demo", text };
    let Some(first) = run::first(&origin)? else {
        anyhow::bail!("the demo's own configuration is wrong: this is a bug in Strata")
    };
    run::start_log(&first.config)?;
    let access = Sink::start(&first.config.access_log.output).context("cannot write access records")?;
    run::control(async move {
        for (number, endpoint) in (1..).zip(endpoints) {
            endpoint.set_nonblocking(true)?;
            let listener = TcpListener::from_std(endpoint)?;
            tokio::task::spawn_local(echo::serve(listener, format!("echo-{number}")));
        }
        let supervisor = Supervisor::start(origin, first, access, Beginning::default()).await?;
        introduce(&ports, http, tcp, metrics, admin)?;
        Ok(supervisor.run().await)
    })
}

fn loopback() -> anyhow::Result<StdListener> {
    StdListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen on loopback")
}

fn port(listener: &StdListener) -> anyhow::Result<u16> {
    Ok(listener.local_addr()?.port())
}

/// Ports that were free a moment ago: all are held at once, so that they differ, then given up for Strata to bind.
fn free_ports<const N: usize>() -> anyhow::Result<[u16; N]> {
    let held: Vec<StdListener> = (0..N).map(|_| loopback()).collect::<anyhow::Result<_>>()?;
    let mut ports = [0; N];
    for (slot, listener) in ports.iter_mut().zip(&held) {
        *slot = port(listener)?;
    }
    Ok(ports)
}

fn configuration(endpoints: &[u16], http: u16, tcp: u16, metrics: u16, admin: u16) -> String {
    let endpoints: Vec<String> = endpoints.iter().map(|port| format!("\"127.0.0.1:{port}\"")).collect();
    let (all, first) = (endpoints.join(", "), &endpoints[0]);
    format!(
        r#"[metrics]
listen = "127.0.0.1:{metrics}"

[admin]
listen = "127.0.0.1:{admin}"

[drain]
timeout = "3s"

[service.web]
mode = "l7"
listen = "127.0.0.1:{http}"
[[service.web.route]]
url = "/first/*"
pool = "first"
[[service.web.route]]
pool = "echo"

[service.tcp]
mode = "l4"
listen = "127.0.0.1:{tcp}"
pool = "echo"

[pool.echo]
balance = "round-robin"
probe = {{ type = "http", path = "/healthz", interval = "1s" }}
endpoints = [{all}]

[pool.first]
endpoints = [{first}]
"#
    )
}

fn introduce(endpoints: &[u16], http: u16, tcp: u16, metrics: u16, admin: u16) -> anyhow::Result<()> {
    let first = endpoints[0];
    let [web, page, dashboard] =
        [(http, "/"), (metrics, "/metrics"), (admin, "/")].map(|(port, path)| format!("http://127.0.0.1:{port}{path}"));
    let raw = format!("127.0.0.1:{tcp}");
    say(format_args!(
        "
Strata is running. Everything is on loopback; Ctrl-C stops it.

  L7  {web:34}round robin over three echo endpoints
  L4  {raw:34}the same endpoints, as plain TCP
      {page:34}for Prometheus
      {dashboard:34}the dashboard; below /api/ the admin API

Worth trying:

  curl http://127.0.0.1:{http}/hello           # again and again: another endpoint each time
  curl http://127.0.0.1:{http}/first/only      # a route of its own: always echo-1
  curl -s http://127.0.0.1:{metrics}/metrics | grep strata_requests_total

And, from another terminal, with this binary:

  strata status --admin 127.0.0.1:{admin}
  strata top --admin 127.0.0.1:{admin}          # live; q quits
  strata drain echo 127.0.0.1:{first} --admin 127.0.0.1:{admin}

"
    ))
}
