//! Shell: Strata's own log, on standard error or where the file says: text for people (coloured on a terminal, with systemd's numbers
//! in its journal) or one JSON object a line. Whoever logs never waits for it: lines go through `sink`'s queue.
//!
//! Values in a line may come from the network, and must neither end it nor reach a terminal as a command (hardening C6). JSON
//! escapes them by nature. `tracing-subscriber` escapes a text line's message but not fields shown by `%`, so fields are written
//! here: control characters escaped, line breaks indented. Not here: access records (`access`, `sink`).

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::sync::OnceLock;

use tracing::field::Field;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use super::events;
use super::sink::{Destination, Output, Sink, Writer as Thread};

/// The filter of the one log there is, so that a reload can change its level.
static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();
/// Overrides the configured level, with `tracing-subscriber`'s directives.
const DIRECTIVES: &str = "STRATA_LOG";

/// Where its lines go.
static SINK: OnceLock<Sink> = OnceLock::new();
static THREAD: parking_lot::Mutex<Option<Thread>> = parking_lot::Mutex::new(None);

/// Starts logging at `level` and above; `STRATA_LOG` overrides it, with `tracing-subscriber`'s directives.
///
/// # Errors
/// Logging was started before, `STRATA_LOG` cannot be read, or `output` cannot be written.
pub fn start(level: &str, json: bool, output: &Output) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let filter = match std::env::var(DIRECTIVES) {
        Ok(directives) => EnvFilter::try_new(directives).map_err(|error| format!("{DIRECTIVES}: {error}"))?,
        Err(_) => EnvFilter::try_new(level)?,
    };
    let (filter, handle) = reload::Layer::new(filter);
    let (sink, thread) = Sink::start_log(output).map_err(|error| format!("[log]: cannot write {output}: {error}"))?;
    let reader = Reader::of(output);
    let queue = Queue(sink.clone());
    tracing::subscriber::set_global_default(
        // Events are kept whatever the level of the log is.
        Registry::default().with(lines(json, reader, move || queue.clone()).with_filter(filter)).with(events::layer()),
    )?;
    // Set once: only the first start gets here.
    let _ = (FILTER.set(handle), SINK.set(sink));
    *THREAD.lock() = Some(thread);
    Ok(())
}

/// Writes what is still queued, within bounds. Lines that come later are lost.
pub fn finish() {
    if let Some(thread) = THREAD.lock().take() {
        thread.finish();
    }
}

/// Opens its file anew, after a rotation.
pub fn reopen() {
    SINK.get().inspect(|sink| sink.reopen());
}

/// Writes to `next` from now on.
pub fn redirect(next: Destination) {
    SINK.get().inspect(|sink| sink.redirect(next));
}

/// Lines that are not in the log: those that found the queue full, and those that the output refused.
pub fn dropped() -> u64 {
    SINK.get().map_or(0, Sink::dropped)
}

/// The subscriber writes an event in one call.
#[derive(Clone)]
struct Queue(Sink);

impl Write for Queue {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        // What is lost is counted there; an error would be told on standard error, which may be what is stuck.
        self.0.push(event.to_vec());
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Logs at `level` and above from now on, unless `STRATA_LOG` says otherwise.
pub fn set_level(level: &str) {
    if std::env::var_os(DIRECTIVES).is_some() {
        return;
    }
    if let (Some(filter), Ok(new)) = (FILTER.get(), EnvFilter::try_new(level)) {
        // Fails only when the subscriber is gone, and with it the log.
        let _ = filter.reload(new);
    }
}

/// Who reads the lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    File,
    Terminal,
    /// systemd's: it has a clock of its own, and wants a number before each line that says how grave it is (sd-daemon(3)).
    Journal,
}

impl Reader {
    fn of(output: &Output) -> Reader {
        match output {
            Output::Stderr if io::stderr().is_terminal() => Reader::Terminal,
            Output::Stderr if is_journal().unwrap_or(false) => Reader::Journal,
            _ => Reader::File,
        }
    }
}

/// Whether standard error is the very stream that systemd has named: who inherits the name may have another one (systemd.exec(5)).
fn is_journal() -> Option<bool> {
    let named = std::env::var("JOURNAL_STREAM").ok()?;
    let (device, inode) = named.split_once(':')?;
    let own = File::from(io::stderr().as_fd().try_clone_to_owned().ok()?).metadata().ok()?;
    Some(device.parse() == Ok(own.dev()) && inode.parse() == Ok(own.ino()))
}

fn lines<S, W>(json: bool, reader: Reader, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_target(false);
    let writer = Indented { writer, graded: reader == Reader::Journal };
    if json {
        return Box::new(lines.json().flatten_event(true).with_current_span(false).with_writer(writer));
    }
    let lines = lines.with_ansi(reader == Reader::Terminal).fmt_fields(debug_fn(write_field)).with_writer(writer);
    if reader == Reader::Journal { Box::new(lines.without_time().with_level(false)) } else { Box::new(lines) }
}

/// The message as it is, which comes first, and behind it other fields as `name=value`. The kind of event that a line is, JSON alone
/// shows: a delimiter of the subscriber's would stand for it all the same.
fn write_field(line: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    if field.name() == events::FIELD {
        return Ok(());
    }
    if field.name() != "message" {
        write!(line, " {}=", field.name())?;
    }
    write!(Escaping(line), "{value:?}")
}

/// Escapes control characters but line breaks, which [`Indenting`] sees to.
struct Escaping<'a, 'b>(&'a mut Writer<'b>);

impl fmt::Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(|c: char| c.is_control() && c != '\n') {
            let (plain, tail) = rest.split_at(at);
            self.0.write_str(plain)?;
            let mut after = tail.chars();
            if let Some(control) = after.next() {
                write!(self.0, "{}", control.escape_default())?;
            }
            rest = after.as_str();
        }
        self.0.write_str(rest)
    }
}

/// Makes writers that keep one event from looking like two.
struct Indented<W> {
    writer: W,
    graded: bool,
}

struct Indenting<W> {
    writer: W,
    /// Stands before each line.
    grade: &'static [u8],
}

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for Indented<W> {
    type Writer = Indenting<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Indenting { writer: self.writer.make_writer(), grade: b"" }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Self::Writer {
        let grade: &[u8] = match *meta.level() {
            _ if !self.graded => b"",
            Level::ERROR => b"<3>",
            Level::WARN => b"<4>",
            Level::INFO => b"<6>",
            _ => b"<7>",
        };
        Indenting { writer: self.writer.make_writer(), grade }
    }
}

impl<W: Write> Write for Indenting<W> {
    /// The subscriber writes an event in one call, its line break last.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let line = event.strip_suffix(b"\n").unwrap_or(event);
        if !line.contains(&b'\n') && self.grade.is_empty() {
            return self.writer.write_all(event).map(|()| event.len());
        }
        let mut safe = Vec::with_capacity(event.len() + 64);
        safe.extend_from_slice(self.grade);
        for byte in line {
            safe.push(*byte);
            if *byte == b'\n' {
                safe.extend_from_slice(self.grade);
                safe.extend_from_slice(b"    ");
            }
        }
        safe.push(b'\n');
        self.writer.write_all(&safe).map(|()| event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<parking_lot::Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(json: bool, reader: Reader, say: impl FnOnce()) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        let subscriber =
            Registry::default().with(EnvFilter::new("info")).with(lines(json, reader, move || writer.clone()));
        tracing::subscriber::with_default(subscriber, say);
        let bytes = kept.0.lock().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn hostile() {
        let value = "x\n2026-01-01T00:00:00Z  INFO forged\r\x1b[2J\u{9b}31m";
        tracing::info!(shown = %value, debugged = ?value, "message {value}");
        tracing::debug!("not shown");
    }

    #[test]
    fn a_hostile_value_forges_no_line_and_reaches_no_terminal() {
        let text = logged(false, Reader::File, hostile);
        assert!(text.lines().skip(1).all(|line| line.starts_with("    ")), "{text:?}");
        assert!(!text.contains(['\r', '\x1b', '\u{9b}']), "{text:?}");
        assert!(text.contains("forged") && !text.contains("not shown") && text.ends_with('\n'));
    }

    #[test]
    fn json_is_an_object_a_line() {
        let text = logged(true, Reader::File, hostile);
        assert_eq!(text.lines().count(), 1, "{text:?}");
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["level"], "INFO");
        assert!(read["message"].as_str().unwrap().starts_with("message x\n"));
        assert!(!text.trim_end().contains(['\r', '\x1b']), "{text:?}");
    }

    #[test]
    fn colour_is_for_terminals() {
        assert!(logged(false, Reader::Terminal, || tracing::warn!("x")).contains('\x1b'));
        assert!(!logged(false, Reader::File, || tracing::warn!("x")).contains('\x1b'));
    }

    #[test]
    fn the_journal_is_told_how_grave_each_line_is() {
        let say = || {
            tracing::warn!(at = 7, "one\ntwo");
            tracing::error!("three");
        };
        assert_eq!(logged(false, Reader::Journal, say), "<4>one\n<4>    two at=7\n<3>three\n");
        let json = logged(true, Reader::Journal, hostile);
        let object: serde_json::Value = serde_json::from_str(json.strip_prefix("<6>").unwrap()).unwrap();
        assert_eq!(object["level"], "INFO");
        let forged = logged(false, Reader::Journal, || tracing::info!(value = %"x\n<0>forged", "said"));
        assert_eq!(forged, "<6>said value=x\n<6>    <0>forged\n");
    }
}
