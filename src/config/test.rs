//! Engine: reads `[[test]]`: what becomes of one request or packet by this file, as its author says it. Running them is `app`'s.

use super::value::{Expectation, Subject, Test};
use crate::base::{Reason, limits};
use crate::doc::{Diagnostic, Item, Spanned, Table, codes, quote, suggest};
use crate::explain::{Asked, Fault};
use crate::route::Pattern;
use crate::wire::http1::Reject;
use crate::wire::line;

/// Every test, in the order of the file.
pub(super) fn read_tests(root: &mut Table<'_>) -> Vec<Test> {
    let Some(item) = root.get("test") else { return Vec::new() };
    if item.is_table() {
        let mistake = Diagnostic::new(&codes::WRONG_KIND, item.span(), "`test` must be a list of tables");
        root.report(
            mistake.label("this is one table").help("a test starts with [[test]], in two brackets: there can be many"),
        );
    }
    let items = item.one_or_many();
    if items.len() > limits::TESTS {
        let message = format!("{} tests, more than the {} that are run", items.len(), limits::TESTS);
        root.report(Diagnostic::new(&codes::TOO_MANY_NAMES, item.key_span(), message));
    }
    let read = |item: &Item<'_>| item.table("test", read_test).flatten();
    items.iter().take(limits::TESTS).filter_map(read).collect()
}

fn read_test(table: &mut Table<'_>) -> Option<Test> {
    let request = if table.has("packet") { None } else { Some(table.need("request", EXAMPLE)) };
    let packet = table.get("packet");
    let expect = table.need("expect", "expect = \"pool web\"");
    let of_packets = packet.is_some();
    let expect = expect.map(|item| item.one_or_many()).unwrap_or_default();
    let expect: Vec<_> = expect.iter().filter_map(|item| read_expectation(item, of_packets)).collect();
    let subject = match packet {
        Some(packet) => {
            for key in ["request", "from", "header", "service"] {
                if let Some(item) = table.has(key).then(|| table.get(key)).flatten() {
                    let message = format!("`{key}` is said of a request, and this is a test of a packet");
                    table.report(Diagnostic::new(&codes::MISPLACED, item.key_span(), message).help("leave it out"));
                }
            }
            read_packet(&packet)
        }
        None => read_request(table, request.flatten().as_ref()),
    };
    // Without one it says nothing; that was reported.
    let subject = subject?;
    (!expect.is_empty()).then_some(Test { subject, expect })
}

fn read_packet(item: &Item<'_>) -> Option<Spanned<Subject>> {
    let text = item.text()?;
    match line::parse(text.value) {
        Ok(line) => {
            Some(Spanned::new(Subject::Packet { text: text.value.to_owned(), line: Box::new(line) }, text.span))
        }
        Err(why) => item.fail(&codes::MALFORMED, format!("{} is no packet", quote(text.value)), Some(why)),
    }
}

fn read_request(table: &mut Table<'_>, item: Option<&Item<'_>>) -> Option<Spanned<Subject>> {
    let from = table.get("from");
    let header = table.get("header");
    let service = table.get("service");
    let text = item.and_then(Item::text);
    let from_text = from.as_ref().and_then(Item::text).map(|text| text.value.to_owned());
    let service_text = service.as_ref().and_then(Item::text).map(|text| text.value.to_owned());
    let headers = header.as_ref().map(read_headers).unwrap_or_default();
    let text = text?;
    let asked =
        Asked { request: text.value, headers: &headers, from: from_text.as_deref(), service: service_text.as_deref() };
    match asked.read() {
        Ok(question) => {
            let subject = Subject::Request {
                text: text.value.to_owned(),
                from: from_text,
                headers,
                service: service_text,
                question: Box::new(question),
            };
            Some(Spanned::new(subject, text.span))
        }
        Err(Fault { part, why }) => {
            let place = match part {
                "from" => from.as_ref(),
                "header" => header.as_ref(),
                "service" => service.as_ref(),
                _ => item,
            };
            place?.fail(&codes::MALFORMED, format!("the test's `{part}` cannot be understood"), Some(why))
        }
    }
}

/// `{ Cookie = "a=1" }`, `["Cookie: a=1"]` or one of the latter.
fn read_headers(item: &Item<'_>) -> Vec<String> {
    if !item.is_table() {
        let texts = item.one_or_many();
        return texts.iter().filter_map(|item| Some(item.text()?.value.to_owned())).collect();
    }
    let fields = item.table("header", Table::entries).unwrap_or_default();
    fields.iter().filter_map(|(name, item)| Some(format!("{}: {}", name.value, item.text()?.value))).collect()
}

fn read_expectation(item: &Item<'_>, of_packets: bool) -> Option<Spanned<Expectation>> {
    let text = item.text()?;
    let (word, rest) = text.value.trim().split_once(char::is_whitespace).unwrap_or((text.value.trim(), ""));
    let rest = rest.trim();
    let known: &[&str] =
        if of_packets { &["pool", "service", "drop", "pass"] } else { &["pool", "service", "route", "status", "drop"] };
    let read = match word {
        "pass" if of_packets && rest.is_empty() => Ok(Expectation::Pass),
        "pool" | "service" | "route" | "status" | "drop" if rest.is_empty() => {
            Err(format!("`{word}` is followed by which, as in {}", example(word)))
        }
        _ if !known.contains(&word) => Err(match suggest::nearest(word, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`"),
            None => format!("a test expects {}, as in \"pool web\"", suggest::one_of(known.iter().copied())),
        }),
        "pool" => Ok(Expectation::Pool(rest.to_owned())),
        "service" => Ok(Expectation::Service(rest.to_owned())),
        "route" => canonical(rest).map(Expectation::Route),
        "status" => match rest.parse() {
            Ok(status @ 400..=599) => Ok(Expectation::Status(status)),
            _ => Err("Strata itself answers with a status from 400 to 599".to_owned()),
        },
        _ => reason(rest).map(Expectation::Drop),
    };
    match read {
        Ok(expectation) => Some(Spanned::new(expectation, text.span)),
        Err(help) => item.fail(&codes::MALFORMED, format!("{} cannot be expected", quote(text.value)), Some(help)),
    }
}

fn canonical(url: &str) -> Result<String, String> {
    if url == "*" { Ok("*".to_owned()) } else { Ok(Pattern::parse(url)?.to_string()) }
}

fn reason(word: &str) -> Result<String, String> {
    let words = || Reason::ALL.iter().map(|reason| reason.word()).chain(Reject::ALL.iter().map(|reject| reject.word()));
    if words().any(|known| known == word) {
        return Ok(word.to_owned());
    }
    Err(match suggest::nearest(word, words()) {
        Some(near) => format!("did you mean `drop {near}`"),
        None => "docs/drops.md lists the reasons, as in \"drop no-route\"".to_owned(),
    })
}

const fn example(word: &str) -> &'static str {
    match word.as_bytes() {
        b"pool" => "\"pool web\"",
        b"service" => "\"service edge\"",
        b"route" => "\"route api.example.com/v1/*\", or \"route *\" for one without a url",
        b"status" => "\"status 404\"",
        _ => "\"drop no-route\"",
    }
}

const EXAMPLE: &str = "request = \"GET http://a.test/x\"";
