//! Wiring: `strata try`: asks HTTP services again and again, each time on a connection of its own, and counts who answered.
//!
//! For the first minutes with a configuration, and for scripts: the image has no shell and no `curl`. It speaks the client's side
//! only, and judges by what `strata echo` says of itself (`X-Endpoint`) and of whom it talked to. Other servers answer too; they
//! have no name. Not here: load. One request is out at a time, so that what is counted is what was asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, HeaderName, HeaderValue};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::echo::stop_signal;
use super::remote::ask;
use super::say;
use crate::base::clock;
use crate::base::units::{parse_duration, show_duration};
use crate::doc::quote;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// What is asked, and who may answer: http://10.0.0.100/, 'http://10.0.0.100/api=>api-1,api-2', or 'http://10.0.0.100/=>3' for any three
    #[arg(required = true, value_name = "URL[=>NAMES]", value_parser = Question::parse)]
    questions: Vec<Question>,
    /// Requests for each URL
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// Until then whoever should answer may be missing; what is asked meanwhile is not counted
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    wait: Duration,
    /// For each answer
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = parse_duration)]
    timeout: Duration,
    /// A field of each request, as in 'Host: api.example.com'; may be given several times
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE", value_parser = parse_field)]
    fields: Vec<(HeaderName, HeaderValue)>,
    /// Endpoints must see this host's own address as the client's
    #[arg(long)]
    client_kept: bool,
    /// Go on until stopped, one request for each URL every so often, and print what was counted every ten seconds
    #[arg(long, value_name = "DURATION", value_parser = parse_pause)]
    every: Option<Duration>,
}

/// A URL, and who may answer; no names: anybody, but so many of them.
#[derive(Clone, Debug)]
struct Question {
    url: Uri,
    host: String,
    port: u16,
    names: BTreeSet<String>,
    least: usize,
}

impl Question {
    fn parse(text: &str) -> Result<Question, String> {
        // `>` stands in no URL.
        let (url, names) = text.split_once("=>").unwrap_or((text, ""));
        let url = url.trim().parse::<Uri>().map_err(|error| error.to_string())?;
        if url.scheme_str() != Some("http") {
            return Err("it begins with http://".to_owned());
        }
        let host = url.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = port_of(&url)?;
        if let Ok(least) = names.trim().parse() {
            return Ok(Question { url, host, port, names: BTreeSet::new(), least });
        }
        let names = names.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
        Ok(Question { url, host, port, names, least: 1 })
    }

    /// Whether everybody who should answer has.
    fn is_complete(&self, tally: &Tally) -> bool {
        tally.by.len() >= self.least && self.names.iter().all(|name| tally.by.contains_key(name))
    }
}

/// A port that is written and does not read is none, for whoever wrote it did not mean 80.
fn port_of(url: &Uri) -> Result<u16, String> {
    let authority = url.authority().map_or("", |authority| authority.as_str());
    let (_, place) = authority.rsplit_once('@').unwrap_or(("", authority));
    let written = place.strip_prefix(url.host().unwrap_or_default()).unwrap_or_default();
    match written.strip_prefix(':') {
        None => Ok(80),
        Some(port) => match port.parse() {
            Ok(0) | Err(_) => Err(format!("{} is no port: it is a number from 1 to 65535", quote(port))),
            Ok(port) => Ok(port),
        },
    }
}

fn parse_field(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("it is NAME: VALUE")?;
    let name = name.trim().parse::<HeaderName>().map_err(|error| error.to_string())?;
    let value = value.trim().parse::<HeaderValue>().map_err(|error| error.to_string())?;
    Ok((name, value))
}

fn parse_pause(text: &str) -> Result<Duration, &'static str> {
    match parse_duration(text)? {
        Duration::ZERO => Err("it is more than 0"),
        pause => Ok(pause),
    }
}

/// One answer: who gave it, and whom it said it talked to.
struct Answer {
    name: String,
    client: Option<IpAddr>,
    own: IpAddr,
}

#[derive(Default)]
struct Tally {
    by: BTreeMap<String, Answers>,
    /// Requests without a good answer, by what happened.
    failed: BTreeMap<String, u64>,
}

#[derive(Default)]
struct Answers {
    count: u64,
    clients: BTreeSet<IpAddr>,
    /// Some client was not this host.
    masked: bool,
}

impl Tally {
    fn add(&mut self, answer: Result<Answer, String>) {
        match answer {
            Ok(Answer { name, client, own }) => {
                let answers = self.by.entry(name).or_default();
                answers.count += 1;
                answers.clients.extend(client);
                answers.masked |= client != Some(own);
            }
            Err(what) => *self.failed.entry(what).or_default() += 1,
        }
    }

    /// A line for each who answered, and for what went wrong.
    fn show(&self) -> String {
        let mut text = String::new();
        for (name, answers) in &self.by {
            let clients: Vec<String> = answers.clients.iter().map(IpAddr::to_string).collect();
            let clients =
                if clients.is_empty() { String::new() } else { format!("saw the client as {}", clients.join(", ")) };
            let _ = writeln!(text, "  {:>6}  {name:24} {clients}", answers.count);
        }
        for (what, count) in &self.failed {
            let _ = writeln!(text, "  {count:>6}  no answer: {what}");
        }
        text
    }

    /// What is not as it should be.
    fn wrong(&self, question: &Question, client_kept: bool) -> Vec<String> {
        let mut wrong = Vec::new();
        let failed: u64 = self.failed.values().sum();
        if failed > 0 {
            wrong.push(format!("{failed} requests had no answer"));
        }
        for name in question.names.iter().filter(|name| !self.by.contains_key(*name)) {
            wrong.push(format!("{name} never answered"));
        }
        if question.names.is_empty() && self.by.len() < question.least {
            wrong.push(format!("{} answered, and {} should", self.by.len(), question.least));
        }
        for (name, answers) in &self.by {
            if !question.names.is_empty() && !question.names.contains(name) {
                wrong.push(format!("{name} answered, who should not"));
            }
            if client_kept && answers.masked {
                wrong.push(format!("{name} did not see this host's address"));
            }
        }
        wrong
    }
}

/// 0: every request was answered, by everybody who should and nobody else.
pub(super) fn try_out(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    ask(async {
        if let Some(pause) = arguments.every {
            tokio::select! {
                outcome = go_on(arguments, pause) => outcome?,
                outcome = stop_signal() => outcome?,
            }
            return Ok(ExitCode::SUCCESS);
        }
        let mut well = true;
        for question in &arguments.questions {
            well &= judge(arguments, question).await?;
        }
        Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

async fn judge(arguments: &Arguments, question: &Question) -> anyhow::Result<bool> {
    say(format_args!("{}: {} requests, each on a connection of its own\n", question.url, arguments.count))?;
    let until = clock::now() + arguments.wait;
    let mut first = Tally::default();
    while !question.is_complete(&first) && clock::now() < until {
        let answer = one(arguments, question).await;
        let pause = if answer.is_err() { PAUSE } else { SHORT_PAUSE };
        first.add(answer);
        if !question.is_complete(&first) {
            tokio::time::sleep(pause).await;
        }
    }
    let mut tally = Tally::default();
    if question.is_complete(&first) {
        for _ in 0..arguments.count {
            tally.add(one(arguments, question).await);
        }
    } else {
        // What was asked in vain is all there is to tell.
        tally = first;
    }
    say(tally.show())?;
    let wrong = tally.wrong(question, arguments.client_kept);
    for what in &wrong {
        say(format_args!("  WRONG: {what}\n"))?;
    }
    Ok(wrong.is_empty())
}

async fn go_on(arguments: &Arguments, pause: Duration) -> anyhow::Result<()> {
    let mut interval = tokio::time::interval(pause);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut since, mut tallies) = (clock::now(), BTreeMap::<String, Tally>::new());
    loop {
        interval.tick().await;
        for question in &arguments.questions {
            tallies.entry(question.url.to_string()).or_default().add(one(arguments, question).await);
        }
        let now = clock::now();
        if now.since(since) >= REPORT {
            since = now;
            for (url, tally) in std::mem::take(&mut tallies) {
                say(format_args!("{url}\n{}", tally.show()))?;
            }
        }
    }
}

/// One request on a new connection. The error is a word that is counted by.
async fn one(arguments: &Arguments, question: &Question) -> Result<Answer, String> {
    match tokio::time::timeout(arguments.timeout, exchange(arguments, question)).await {
        Ok(answer) => answer.map_err(|error| format!("{error:#}")),
        Err(_) => Err(format!("nothing within {}", show_duration(arguments.timeout))),
    }
}

async fn exchange(arguments: &Arguments, question: &Question) -> anyhow::Result<Answer> {
    let stream = TcpStream::connect((question.host.as_str(), question.port)).await.context("cannot connect")?;
    let own = stream.local_addr()?.ip().to_canonical();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.context("no HTTP")?;
    let path = question.url.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::get(path).header(CONNECTION, "close").body(Empty::<Bytes>::new())?;
    let headers = request.headers_mut();
    let authority = question.url.authority().map_or("", |authority| authority.as_str());
    headers.insert(HOST, HeaderValue::from_str(authority)?);
    for (name, value) in &arguments.fields {
        headers.insert(name.clone(), value.clone());
    }
    let exchange = async {
        let answer = sender.send_request(request).await.context("no HTTP answer")?;
        let status = answer.status();
        let name = answer.headers().get("x-endpoint").map(|name| String::from_utf8_lossy(name.as_bytes()).into_owned());
        let reason = answer.headers().get("x-strata-reason").and_then(|reason| reason.to_str().ok()).map(str::to_owned);
        let body = Limited::new(answer.into_body(), ANSWER_BYTES).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("the answer ended early: {error}"))?.to_bytes();
        if !status.is_success() {
            match reason {
                Some(reason) => bail!("status {} ({reason})", status.as_u16()),
                None => bail!("status {}", status.as_u16()),
            }
        }
        let text = String::from_utf8_lossy(&body);
        let name = name.unwrap_or_else(|| "somebody without a name".to_owned());
        Ok::<_, anyhow::Error>(Answer { name, client: client(&text), own })
    };
    // The connection does the work; when it ends first, the exchange says why.
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        _ = connection => exchange.await,
    }
}

/// Whom the endpoint took for the client: the first of `X-Forwarded-For`, else who connected to it.
fn client(body: &str) -> Option<IpAddr> {
    let after = |start: &str| body.lines().find_map(|line| line.strip_prefix(start)).map(str::trim);
    if let Some(list) = after("x-forwarded-for:") {
        return list.split(',').next()?.trim().parse().ok();
    }
    let peer: std::net::SocketAddr = after("connection from")?.parse().ok()?;
    Some(peer.ip().to_canonical())
}

/// Between two requests of which the first had no answer, while there need be none yet.
const PAUSE: Duration = Duration::from_millis(100);
/// The same where it had one, and others are waited for: ten endpoints are found in a second, and nobody is asked flat out.
const SHORT_PAUSE: Duration = Duration::from_millis(20);
const REPORT: Duration = Duration::from_secs(10);
/// What is read of an answer; one that is longer counts as none.
const ANSWER_BYTES: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(answers: &[(&str, Result<&str, &str>)]) -> Tally {
        let mut tally = Tally::default();
        for (name, client) in answers {
            let own = "198.51.100.7".parse().unwrap();
            tally.add(match client {
                Ok(client) => Ok(Answer { name: (*name).to_owned(), client: client.parse().ok(), own }),
                Err(what) => Err((*what).to_owned()),
            });
        }
        tally
    }

    #[test]
    fn a_question_is_a_url_and_who_may_answer() {
        let read = |text| Question::parse(text).map(|q| (q.host, q.port, q.names.into_iter().collect::<Vec<_>>()));
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(read("http://10.0.0.100/a?b=c"), Ok(("10.0.0.100".into(), 80, names(&[]))));
        assert_eq!(read("http://[fd00::1]:8080/ => a, b,"), Ok(("fd00::1".into(), 8080, names(&["a", "b"]))));
        assert_eq!(read("http://edge=>a"), Ok(("edge".into(), 80, names(&["a"]))));
        assert_eq!(read("http://me:2@edge:8081/").map(|question| question.1), Ok(8081));
        assert_eq!(read("http://[fd00::1]/").map(|question| question.1), Ok(80));
        for wrong in ["10.0.0.100", "https://a/", "http://", "ftp://a/", ""] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        for port in ["99999", "65536", "0", "80a", "", "-1"] {
            for host in ["h", "[fd00::1]"] {
                let url = format!("http://{host}:{port}/");
                let error = Question::parse(&format!("{url}=>a")).unwrap_err();
                assert!(error.contains(&quote(port)) || url.parse::<Uri>().is_err(), "{url}: {error}");
            }
        }
    }

    #[test]
    fn between_two_rounds_is_some_time() {
        assert_eq!(parse_pause("1ms"), Ok(Duration::from_millis(1)));
        // The last is less than a nanosecond.
        for wrong in ["0s", "0ms", "0.0001us", "1", ""] {
            assert!(parse_pause(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let question = Question::parse("http://a/=>one,two").unwrap();
        let good = tally(&[("one", Ok("198.51.100.7")), ("two", Ok("198.51.100.7"))]);
        assert_eq!(good.wrong(&question, true), Vec::<String>::new());
        let many = Question::parse("http://a/=>3").unwrap();
        assert_eq!(good.wrong(&many, false), ["2 answered, and 3 should"]);
        assert!(good.wrong(&Question::parse("http://a/=>2").unwrap(), false).is_empty());
        let bad = tally(&[("one", Ok("10.0.0.1")), ("three", Ok("198.51.100.7")), ("", Err("late"))]);
        assert_eq!(
            bad.wrong(&question, true),
            [
                "1 requests had no answer",
                "two never answered",
                "one did not see this host's address",
                "three answered, who should not",
            ]
        );
        assert_eq!(bad.wrong(&question, false).len(), 3);
        assert!(bad.show().contains("no answer: late") && bad.show().contains("saw the client as 10.0.0.1"));
    }

    #[test]
    fn the_client_is_whom_a_proxy_speaks_for_else_who_connected() {
        let body = "endpoint a\nconnection from 10.0.0.2:4242\nGET /\nhost: a\n";
        assert_eq!(client(body), "10.0.0.2".parse().ok());
        assert_eq!(client("connection from [::ffff:10.0.0.2]:1\n"), "10.0.0.2".parse().ok());
        let forwarded = format!("{body}x-forwarded-for: 198.51.100.7, 10.0.0.9\n");
        assert_eq!(client(&forwarded), "198.51.100.7".parse().ok());
        assert_eq!(client("hello"), None);
    }
}
