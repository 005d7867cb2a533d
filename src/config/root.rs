//! Engine: reads a whole file: the tables of the process here, services, vips and pools by their own readers, then what only
//! the whole can tell (`check`).

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::Catalogs;
use super::check;
use super::packet::read_packets;
use super::pool::{read_pool, read_zone};
use super::process::read_process;
use super::service::{Context, read_service};
use super::test::read_tests;
use super::value::{AccessLog, Admin, Cluster, Config, Drain, Level, Log, LogFormat, Metrics, Packets};
use super::vip::read_vip;
use crate::base::address::AdminListen;
use crate::base::{HashKey, Listen, limits};
use crate::doc::{Diagnostic, Item, Secret, Span, Spanned, Table, codes, quote, suggest};
use crate::observe::access;
use crate::observe::sink::Output;
use crate::state::ModeKind;

/// What the readers find on the way and `check` judges: also from parts that did not make it into the `Config`.
#[derive(Default)]
pub(super) struct Survey {
    pub listeners: Vec<Listener>,
    pub references: Vec<Reference>,
    /// Names of pools that are defined, however wrong.
    pub pools: Vec<Spanned<Arc<str>>>,
    /// Names of vips that are defined, however wrong.
    pub vips: Vec<Spanned<Arc<str>>>,
    /// A vip's name, and the service that leads there.
    pub vip_references: Vec<(Spanned<Arc<str>>, Arc<str>)>,
    /// Routes may lead to any pool that this file does not speak of yet.
    pub finds_routes: bool,
}

pub(super) struct Listener {
    pub address: Spanned<Listen>,
    /// `service web`, `[admin]`.
    pub owner: String,
}

/// A service that leads to a pool.
pub(super) struct Reference {
    pub pool: Spanned<Arc<str>>,
    pub service: Arc<str>,
    pub user: User,
}

/// What a service that uses a pool sees of its traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum User {
    Packets(ModeKind),
    Streams,
    Requests,
}

impl User {
    pub(super) fn is_packets(self) -> bool {
        matches!(self, User::Packets(_))
    }

    pub(super) fn mode(self) -> &'static str {
        match self {
            User::Packets(mode) => mode.word(),
            User::Streams => "l4",
            User::Requests => "l7",
        }
    }
}

/// Who uses a pool, all its references taken together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Usage {
    Nobody,
    Proxies,
    Packets,
    /// Both, which `check` reports.
    Mixed,
}

impl Survey {
    fn usage(&self) -> HashMap<Arc<str>, Usage> {
        let mut usage: HashMap<Arc<str>, Usage> = HashMap::new();
        for Reference { pool, user, .. } in &self.references {
            let own = if user.is_packets() { Usage::Packets } else { Usage::Proxies };
            let sum = usage.entry(pool.value.clone()).or_insert(own);
            if *sum != own {
                *sum = Usage::Mixed;
            }
        }
        usage
    }
}

pub(super) fn read_config(root: &mut Table<'_>, catalogs: &Catalogs<'_>) -> Config {
    let mut survey = Survey::default();
    let workers = root.get("workers").and_then(|item| item.integer(1, limits::WORKERS)).map(|n| n.value);
    let watch = root.get("watch").and_then(|item| item.bool()).is_some_and(|watch| watch.value);
    let metrics = root.get("metrics").and_then(|item| item.table("metrics", |table| read_metrics(table, &mut survey)));
    let admin = root.get("admin").and_then(|item| item.table("admin", |table| read_admin(table, &mut survey)));
    let log = root.get("log").and_then(|item| item.table("log", read_log)).unwrap_or_else(default_log);
    let access_given = root.get("access_log");
    let access_log = access_given.as_ref().and_then(|item| item.table("access_log", read_access_log));
    let access_default = access_log.as_ref().map(|access| access.format);
    let access_log = access_log.unwrap_or(AccessLog { format: access::Format::Json, output: Output::Stdout });
    let cluster = root.get("cluster").and_then(|item| item.table("cluster", read_cluster));
    let packets = root.get("packets").and_then(|item| item.table("packets", read_packets));
    let drain = root.get("drain").and_then(|item| item.table("drain", read_drain));
    let process = root.get("process").and_then(|item| item.table("process", read_process));

    let context = Context { catalogs, access_default, access_format: access_log.format };
    let mut services = Vec::new();
    for (name, item) in named(root, "service") {
        services.extend(read_service(name, &item, context, &mut survey));
    }
    let mut vips = Vec::new();
    for (name, item) in named(root, "vip") {
        survey.vips.push(name.clone());
        vips.extend(read_vip(name, &item));
    }
    let usage = survey.usage();
    let mut pools = Vec::new();
    for (name, item) in named(root, "pool") {
        survey.pools.push(name.clone());
        let usage = usage.get(&name.value).copied().unwrap_or(Usage::Nobody);
        pools.extend(read_pool(name, &item, usage, catalogs));
    }
    let config = Config {
        workers: workers.and_then(|n| usize::try_from(n).ok()),
        watch,
        metrics: metrics.flatten(),
        admin: admin.flatten(),
        log,
        access_log,
        cluster: cluster.unwrap_or_default(),
        packets: packets.unwrap_or(Packets { io: Spanned::implied(None) }),
        drain: drain.unwrap_or(Drain { timeout: DRAIN }),
        process: process.unwrap_or_default(),
        vips,
        services,
        pools,
        tests: read_tests(root),
    };
    check::check(root, &config, &survey);
    config
}

/// The tables of `[service.NAME]`, `[vip.NAME]` or `[pool.NAME]`, in the order of the file, with their names checked.
fn named<'t>(root: &mut Table<'t>, what: &'static str) -> Vec<(Spanned<Arc<str>>, Item<'t>)> {
    let Some(item) = root.get(what) else { return Vec::new() };
    let entries = item.table(what, Table::entries).unwrap_or_default();
    if entries.len() > limits::NAMES {
        let span = entries.get(limits::NAMES).map(|(name, _)| name.span).unwrap_or_default();
        let message = format!("{} {what}s, more than the {} that fit", entries.len(), limits::NAMES);
        root.report(Diagnostic::new(&codes::TOO_MANY_NAMES, span, message));
    }
    entries
        .into_iter()
        .take(limits::NAMES)
        .map(|(name, item)| {
            check_name(root, what, name);
            (name.map(Arc::from), item)
        })
        .collect()
}

fn check_name(root: &Table<'_>, what: &str, name: Spanned<&str>) {
    if let Some(help) = name_fault(&name) {
        let message = format!("{} cannot be the name of a {what}", quote(&name));
        root.report(Diagnostic::new(&codes::BAD_NAME, name.span, message).help(help));
    }
}

/// Why it would not do as a metric's label or in a URL.
pub(super) fn name_fault(name: &str) -> Option<String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if name.is_empty() {
        Some("a name has at least one letter or digit".to_owned())
    } else if name.len() > limits::NAME_BYTES {
        Some(format!("a name has at most {} bytes", limits::NAME_BYTES))
    } else if !name.bytes().all(plain) || !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        Some("a name starts with a letter or digit and goes on with letters, digits, `-`, `_` and `.`".to_owned())
    } else {
        None
    }
}

fn read_metrics(table: &mut Table<'_>, survey: &mut Survey) -> Option<Metrics> {
    let listen = table.need("listen", "listen = \":9901\"")?.listen()?;
    refuse_port_zero(table, listen.port(), listen.span);
    survey.listeners.push(Listener { address: listen, owner: "[metrics]".to_owned() });
    Some(Metrics { listen })
}

fn read_admin(table: &mut Table<'_>, survey: &mut Survey) -> Option<Admin> {
    let given = table.get("token");
    let token = given.as_ref().and_then(read_token);
    let read_only = table.get("read_only").and_then(|item| item.bool()).is_some_and(|said| said.value);
    let item = table.need("listen", "listen = \"127.0.0.1:9900\"")?;
    if let Some(path) = item.is_text().then(|| item.text()).flatten().and_then(|text| text.value.strip_prefix("unix:"))
    {
        if !path.starts_with('/') || path.ends_with('/') {
            let help = Some("a unix socket has an absolute path, as in \"unix:/run/strata.sock\"".to_owned());
            return item.fail(&codes::MALFORMED, format!("{} is not the path of a socket", quote(path)), help);
        }
        let listen = Spanned::new(AdminListen::Unix(PathBuf::from(path)), item.span());
        return Some(Admin { listen, token, read_only });
    }
    let listen = item.listen()?;
    refuse_port_zero(table, listen.port(), listen.span);
    survey.listeners.push(Listener { address: listen, owner: "[admin]".to_owned() });
    // A wrong one has been told already.
    if !listen.is_loopback() && given.is_none() {
        let help = format!(
            "add `token = \"file:/run/secrets/strata-admin\"`, or use \"127.0.0.1:{}\" or \"unix:/run/strata.sock\"",
            listen.port()
        );
        let message = "the admin API may not be reachable from other machines without a token";
        table.report(
            Diagnostic::new(&codes::ADMIN_EXPOSED, listen.span, message).label("not a loopback address").help(help),
        );
    }
    Some(Admin { listen: listen.map(AdminListen::Tcp), token, read_only })
}

/// What can be sent in a header, and is too long to be guessed. Messages do not show it.
fn read_token(item: &Item<'_>) -> Option<Secret> {
    let secret = item.secret()?.value;
    let text = secret.expose();
    let help = || Some("make one with `openssl rand -hex 32`".to_owned());
    if !limits::ADMIN_TOKEN_BYTES.contains(&text.len()) {
        let (least, most) = limits::ADMIN_TOKEN_BYTES.into_inner();
        let message = format!("a token has {least} to {most} bytes; this has {}", text.len());
        return item.fail(&codes::BAD_TOKEN, message, help());
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        let message = "a token is ASCII without spaces: it is sent in a header";
        return item.fail(&codes::BAD_TOKEN, message.to_owned(), help());
    }
    Some(secret)
}

pub(super) fn refuse_port_zero(table: &Table<'_>, port: u16, span: Span) {
    if port == 0 {
        let mistake = Diagnostic::new(&codes::PORT_ZERO, span, "port 0 is not a port that anyone can find");
        table.report(mistake.help("name a port from 1 to 65535"));
    }
}

fn read_log(table: &mut Table<'_>) -> Log {
    let default = default_log();
    let level = table.get("level").and_then(|item| item.one_of(LEVELS)).map_or(default.level, |level| level.value);
    let format = table.get("format").and_then(|item| item.one_of(LOG_FORMATS)).map_or(default.format, |f| f.value);
    let output = table.get("output").and_then(|item| read_output(&item, "log lines", "strata.log"));
    Log { level, format, output: output.unwrap_or(default.output) }
}

fn default_log() -> Log {
    Log { level: Level::Info, format: LogFormat::Text, output: Output::Stderr }
}

fn read_access_log(table: &mut Table<'_>) -> AccessLog {
    let format = table.get("format").and_then(|item| item.one_of(ACCESS_FORMATS));
    let output = table.get("output").and_then(|item| read_output(&item, "access records", "access.log"));
    AccessLog {
        format: format.map_or(access::Format::Json, |format| format.value),
        output: output.unwrap_or(Output::Stdout),
    }
}

fn read_output(item: &Item<'_>, what: &str, example: &str) -> Option<Output> {
    let text = item.text()?.value;
    if let Some(stream) = Output::stream(text) {
        return Some(stream);
    }
    // A word without a slash is a typo far more often than a file in the working directory.
    if !text.contains('/') || text.ends_with('/') || text.contains('\0') {
        let meant = suggest::nearest(text, ["stdout", "stderr"]).map(|word| format!("did you mean `{word}`"));
        let help = meant.unwrap_or_else(|| {
            format!("`stdout`, `stderr`, or the path of a file, as in \"/var/log/strata/{example}\"")
        });
        return item.fail(&codes::MALFORMED, format!("{} is no output for {what}", quote(text)), Some(help));
    }
    Some(Output::File(PathBuf::from(text)))
}

fn read_cluster(table: &mut Table<'_>) -> Cluster {
    let (hash_key, written) = table.get("hash_key").and_then(|item| read_hash_key(&item)).unzip();
    Cluster { hash_key, written, zone: table.get("zone").and_then(|item| read_zone(&item)) }
}

fn read_hash_key(item: &Item<'_>) -> Option<(HashKey, Secret)> {
    let secret = item.secret()?.value;
    let text = secret.expose();
    if let Ok(bytes) = <[u8; 16]>::try_from(text.as_bytes()) {
        return Some((HashKey::new(bytes), secret));
    }
    if let Some(bytes) = hex16(text) {
        return Some((HashKey::new(bytes), secret));
    }
    // The value is a secret: the message tells its length only.
    let message = format!("a hash key is 32 hexadecimal digits or 16 bytes of text; this has {} bytes", text.len());
    item.fail(&codes::BAD_HASH_KEY, message, Some("make one with `openssl rand -hex 16`".to_owned()))
}

fn hex16(text: &str) -> Option<[u8; 16]> {
    if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(text, 16).ok().map(u128::to_be_bytes)
}

fn read_drain(table: &mut Table<'_>) -> Drain {
    let timeout = table.get("timeout").and_then(|item| item.duration(Duration::ZERO, Duration::from_secs(24 * 3600)));
    Drain { timeout: timeout.map_or(DRAIN, |timeout| timeout.value) }
}

/// `notes/hardening.md`, design rule 4.
const DRAIN: Duration = Duration::from_secs(30);

const LEVELS: &[(&str, Level)] = &[
    ("error", Level::Error),
    ("warn", Level::Warn),
    ("info", Level::Info),
    ("debug", Level::Debug),
    ("trace", Level::Trace),
];
const LOG_FORMATS: &[(&str, LogFormat)] = &[("text", LogFormat::Text), ("json", LogFormat::Json)];
pub(super) const ACCESS_FORMATS: &[(&str, access::Format)] =
    &[("json", access::Format::Json), ("combined", access::Format::Combined)];
