//! Shell: the bounded queue of a log's lines, and the thread that writes them: access records, and Strata's own log (`log`).
//!
//! Traffic never waits for a log: a line that finds the queue full is counted and lost (hardening J8). The queue is bounded in
//! lines and in bytes. The writer of access records gathers what comes within [`GATHER`] into one write, so that a busy sender
//! wakes nobody. A writer survives a full disk and a closed pipe, counting what it could not write, and a pipe that nobody reads
//! holds nobody but itself, not even the end of the process.
//!
//! Not here: formats (`access`, `log`), nor which services log.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;

use super::access::{Format, Record};
use crate::base::{clock, limits};

/// Where lines go. Cheap to clone; off by default.
#[derive(Clone, Debug, Default)]
pub struct Sink(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    queue: SyncSender<Message>,
    queued_bytes: AtomicUsize,
    unwritten: AtomicU64,
    /// Found the queue full.
    lost: AtomicU64,
    /// Write what is queued, then end.
    finish: AtomicBool,
    /// Set to open the file anew, or to go over to `next`.
    reopen: AtomicBool,
    next: Mutex<Option<Destination>>,
}

#[derive(Debug)]
enum Message {
    Line(Vec<u8>),
    /// Look at the flags.
    Wake,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    Stdout,
    Stderr,
    /// Appended to; made if it is not there.
    File(PathBuf),
}

impl Output {
    /// `stdout` or `stderr`.
    pub fn stream(name: &str) -> Option<Output> {
        match name {
            "stdout" => Some(Output::Stdout),
            "stderr" => Some(Output::Stderr),
            _ => None,
        }
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Output::Stdout => f.write_str("stdout"),
            Output::Stderr => f.write_str("stderr"),
            Output::File(path) => path.display().fmt(f),
        }
    }
}

impl serde::Serialize for Output {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// An output that is open.
#[derive(Debug)]
pub struct Destination {
    output: Output,
    /// `None`: a standard stream.
    file: Option<File>,
}

impl Destination {
    /// # Errors
    /// The file cannot be opened.
    pub fn open(output: &Output) -> io::Result<Destination> {
        let file = match output {
            Output::Stdout | Output::Stderr => None,
            Output::File(path) => Some(open(path)?),
        };
        Ok(Destination { output: output.clone(), file })
    }

    fn target(self) -> (Target, Option<PathBuf>) {
        let (stream, path): (Box<dyn Write + Send>, _) = match self.output {
            Output::Stdout => (Box::new(io::stdout()), None),
            Output::Stderr => (Box::new(io::stderr()), None),
            Output::File(path) => (Box::new(io::sink()), Some(path)),
        };
        (self.file.map_or(Target::Other(stream), Target::File), path)
    }
}

/// The writer thread, ended by [`Writer::finish`].
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

impl Sink {
    /// Takes records and keeps none.
    pub fn none() -> Sink {
        Sink(None)
    }

    /// A sink and the thread that writes what it takes to `output`.
    ///
    /// # Errors
    /// The file cannot be opened, or no thread started.
    pub fn start(output: &Output) -> io::Result<(Sink, Writer)> {
        let (target, path) = Destination::open(output)?.target();
        start(target, path, Lines::Records)
    }

    /// The same for Strata's own log: a line is written when it comes, and no trouble is told in lines of its own.
    ///
    /// # Errors
    /// The file cannot be opened, or no thread started.
    pub fn start_log(output: &Output) -> io::Result<(Sink, Writer)> {
        let (target, path) = Destination::open(output)?.target();
        start(target, path, Lines::Log)
    }

    /// Whether anything is kept: a record need not be made for nobody.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Queues the record's line. False when it is lost because the queue is full: for the caller to count.
    pub fn write(&self, format: Format, record: &Record<'_>) -> bool {
        if self.0.is_none() {
            return true;
        }
        let mut line = Vec::with_capacity(LINE_BYTES);
        record.write(format, &mut line);
        self.push(line)
    }

    /// Queues a line, its line break included. False when it is lost.
    pub fn push(&self, line: Vec<u8>) -> bool {
        let Some(shared) = &self.0 else { return true };
        let bytes = line.capacity();
        if shared.queued_bytes.fetch_add(bytes, Relaxed) > limits::LOG_QUEUE_BYTES
            || shared.queue.try_send(Message::Line(line)).is_err()
        {
            shared.queued_bytes.fetch_sub(bytes, Relaxed);
            shared.lost.fetch_add(1, Relaxed);
            return false;
        }
        true
    }

    /// Opens the file anew, after a rotation (USR1). The old one is kept where that fails.
    pub fn reopen(&self) {
        if let Some(shared) = &self.0 {
            shared.reopen.store(true, Relaxed);
            // A full queue keeps the writer awake anyway.
            let _ = shared.queue.try_send(Message::Wake);
        }
    }

    /// Writes to `next` from now on; what is queued still goes to the old output.
    pub fn redirect(&self, next: Destination) {
        if let Some(shared) = &self.0 {
            *shared.next.lock() = Some(next);
            self.reopen();
        }
    }

    /// Lines that were taken, but the output refused.
    pub fn unwritten(&self) -> u64 {
        self.0.as_ref().map_or(0, |shared| shared.unwritten.load(Relaxed))
    }

    /// Lines that are not in the log: those that found the queue full, and those that the output refused.
    pub fn dropped(&self) -> u64 {
        self.0.as_ref().map_or(0, |shared| shared.lost.load(Relaxed) + shared.unwritten.load(Relaxed))
    }
}

impl Writer {
    /// Writes what is queued, and ends; what sinks take afterwards is lost. Where the output holds the writer (a pipe that nobody
    /// reads), it is left behind after [`limits::LOG_FINISH`] and ends with the process. False: so it was.
    pub fn finish(self) -> bool {
        self.shared.finish.store(true, Relaxed);
        let until = clock::now() + limits::LOG_FINISH;
        let mut told = false;
        while !self.thread.is_finished() {
            // A full queue has its writer awake, but that may be about to sleep.
            told = told || self.shared.queue.try_send(Message::Wake).is_ok();
            if clock::now() >= until {
                return false;
            }
            thread::park_timeout(FINISH_LOOK);
        }
        self.thread.join().is_ok()
    }
}

enum Target {
    File(File),
    Other(Box<dyn Write + Send>),
}

impl Target {
    fn write_all(&mut self, batch: &[u8]) -> io::Result<()> {
        match self {
            Target::File(file) => file.write_all(batch),
            Target::Other(other) => other.write_all(batch).and_then(|()| other.flush()),
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

/// What kind of lines a writer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lines {
    Records,
    Log,
}

fn start(target: Target, path: Option<PathBuf>, kind: Lines) -> io::Result<(Sink, Writer)> {
    let (queue, lines) = sync_channel(limits::LOG_QUEUE);
    let shared = Arc::new(Shared {
        queue,
        queued_bytes: AtomicUsize::new(0),
        unwritten: AtomicU64::new(0),
        lost: AtomicU64::new(0),
        finish: AtomicBool::new(false),
        reopen: AtomicBool::new(false),
        next: Mutex::new(None),
    });
    let state = Run { shared: shared.clone(), kind, target, path, failing: false, batch: Vec::new(), lines: 0 };
    let name = match kind {
        Lines::Records => "access-log",
        Lines::Log => "log",
    };
    let thread = thread::Builder::new().name(name.into()).spawn(move || state.run(&lines))?;
    Ok((Sink(Some(shared.clone())), Writer { shared, thread }))
}

struct Run {
    shared: Arc<Shared>,
    kind: Lines,
    target: Target,
    path: Option<PathBuf>,
    /// The last write failed: the next one begins on a new line, and success is told once.
    failing: bool,
    batch: Vec<u8>,
    /// Records in `batch`.
    lines: u64,
}

impl Run {
    fn run(mut self, queue: &Receiver<Message>) {
        // Idle until something comes, then in step: gather, write, until nothing came.
        while let Ok(first) = queue.recv() {
            self.take(first);
            loop {
                if self.kind == Lines::Records {
                    thread::park_timeout(GATHER);
                }
                let mut found = false;
                while let Ok(message) = queue.try_recv() {
                    found = true;
                    self.take(message);
                }
                // Looked at before: what was queued when it was set has been written then.
                let last = self.shared.finish.load(Relaxed);
                self.flush();
                if last && !found {
                    return;
                }
                if !found {
                    break;
                }
            }
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Line(line) => {
                self.shared.queued_bytes.fetch_sub(line.capacity(), Relaxed);
                self.batch.extend_from_slice(&line);
                self.lines += 1;
                if self.batch.len() >= limits::BUFFER_BULK_BYTES {
                    self.flush();
                }
            }
            // What came before it still goes to the old file, what follows to the new one.
            Message::Wake => self.flush(),
        }
    }

    fn flush(&mut self) {
        if !self.batch.is_empty() {
            if self.failing {
                // The failed write may have ended within a line.
                self.batch.insert(0, b'\n');
            }
            match self.target.write_all(&self.batch) {
                Ok(()) if self.failing => {
                    self.failing = false;
                    match self.kind {
                        Lines::Records => tracing::info!("access records are written again"),
                        Lines::Log => tracing::warn!(
                            dropped = self.shared.lost.load(Relaxed) + self.shared.unwritten.load(Relaxed),
                            "the log is written again; lines of it are lost"
                        ),
                    }
                }
                Ok(()) => {}
                Err(error) => {
                    self.shared.unwritten.fetch_add(self.lines, Relaxed);
                    if !self.failing && self.kind == Lines::Records {
                        tracing::error!(%error, "access records cannot be written and are lost");
                    }
                    self.failing = true;
                }
            }
            self.batch.clear();
            self.lines = 0;
        }
        if !self.shared.reopen.swap(false, Relaxed) {
            return;
        }
        let next = self.shared.next.lock().take();
        if let Some(next) = next {
            match self.kind {
                Lines::Records => tracing::info!(output = %next.output, "access records go to another output"),
                Lines::Log => tracing::info!(output = %next.output, "the log goes on here"),
            }
            (self.target, self.path) = next.target();
            self.failing = false;
        } else if let Some(path) = &self.path {
            match open(path) {
                Ok(file) => {
                    self.target = Target::File(file);
                    tracing::info!(path = %path.display(), "log file reopened");
                }
                Err(error) => {
                    tracing::error!(%error, path = %path.display(), "a log file cannot be reopened: the old one is kept");
                }
            }
        }
    }
}

/// A usual line fits, so that it is allocated once.
const LINE_BYTES: usize = 512;
/// What comes within this goes into one write. [`limits::LOG_QUEUE`] records in this time are more than a machine serves.
const GATHER: Duration = Duration::from_millis(10);
/// How often it is looked whether a writer has finished.
const FINISH_LOOK: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::atomic::AtomicU32;
    use std::time::SystemTime;

    use super::*;

    fn record(target: &[u8]) -> Record<'_> {
        Record {
            at: SystemTime::UNIX_EPOCH,
            service: "s",
            client: "192.0.2.1:1".parse().unwrap(),
            method: b"GET",
            host: b"h",
            target,
            protocol: "HTTP/1.1",
            status: 200,
            bytes_received: 0,
            bytes_sent: 0,
            duration: Duration::ZERO,
            pool: None,
            endpoint: None,
            tries: 1,
            referer: b"",
            user_agent: b"",
            why: None,
        }
    }

    /// A file name of this test's own.
    fn scratch(name: &str) -> PathBuf {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let unique = format!("strata-sink-{}-{}-{name}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        std::env::temp_dir().join(unique)
    }

    #[test]
    fn every_record_taken_is_written_in_order_before_the_writer_ends() {
        let path = scratch("order");
        let (sink, writer) = Sink::start(&Output::File(path.clone())).unwrap();
        let mut taken = Vec::new();
        for n in 0..3 * limits::LOG_QUEUE {
            let target = format!("/{n}");
            if sink.write(Format::Combined, &record(target.as_bytes())) {
                taken.push(target);
            }
        }
        writer.finish();
        let text = fs::read_to_string(&path).unwrap();
        let written: Vec<&str> = text.lines().map(|line| line.split(' ').nth(6).unwrap()).collect();
        assert_eq!(written, taken);
        assert!(!sink.write(Format::Json, &record(b"/late")), "nobody writes any more");
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_rotated_file_is_opened_anew() {
        let (path, old) = (scratch("rotated"), scratch("old"));
        let (sink, writer) = Sink::start(&Output::File(path.clone())).unwrap();
        sink.write(Format::Combined, &record(b"/before"));
        while fs::read(&path).unwrap().is_empty() {
            thread::yield_now();
        }
        fs::rename(&path, &old).unwrap();
        sink.reopen();
        while !path.exists() {
            thread::yield_now();
        }
        sink.write(Format::Combined, &record(b"/after"));
        writer.finish();
        assert!(fs::read_to_string(&old).unwrap().contains("/before"));
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("/after") && !text.contains("/before"), "{text}");
        for path in [path, old] {
            fs::remove_file(path).unwrap();
        }
    }

    /// Refuses writes while told to.
    struct Moody {
        refuses: Arc<AtomicBool>,
        refused: SyncSender<()>,
        kept: Arc<parking_lot::Mutex<Vec<u8>>>,
    }

    impl Write for Moody {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.refuses.load(Relaxed) {
                let _ = self.refused.try_send(());
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.kept.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_loses_and_counts_records_and_writing_goes_on_when_there_is_room() {
        let refuses = Arc::new(AtomicBool::new(true));
        let kept = Arc::new(parking_lot::Mutex::new(Vec::new()));
        let (refused, was_refused) = sync_channel(1);
        let moody = Moody { refuses: refuses.clone(), refused, kept: kept.clone() };
        let (sink, writer) = start(Target::Other(Box::new(moody)), None, Lines::Records).unwrap();
        assert!(sink.write(Format::Combined, &record(b"/lost")));
        was_refused.recv().unwrap();
        while sink.unwritten() == 0 {
            thread::yield_now();
        }
        refuses.store(false, Relaxed);
        assert!(sink.write(Format::Combined, &record(b"/kept")));
        writer.finish();
        let text = String::from_utf8(kept.lock().clone()).unwrap();
        assert!(text.starts_with('\n') && text.contains("/kept") && !text.contains("/lost"), "{text:?}");
        assert_eq!(sink.unwritten(), 1);
    }

    /// Holds its writer until told.
    struct Stuck(Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stuck_output_bounds_the_queue_in_records_and_in_bytes() {
        let long = vec![b'a'; limits::LOG_FIELD_BYTES];
        for (target, most) in [(&b"/"[..], limits::LOG_QUEUE), (&long[..], limits::LOG_QUEUE_BYTES / long.len())] {
            let (release, held) = sync_channel(1);
            let (sink, writer) = start(Target::Other(Box::new(Stuck(held))), None, Lines::Records).unwrap();
            // What one batch may hold while it is stuck, beyond the queue.
            let batch = 2 * limits::BUFFER_BULK_BYTES / 100;
            let taken = (0..4 * limits::LOG_QUEUE).filter(|_| sink.write(Format::Combined, &record(target))).count();
            assert!(taken <= most + batch, "{taken} records of {} bytes were taken", target.len());
            assert!(taken >= most / 4, "only {taken} records of {} bytes were taken", target.len());
            drop(release);
            writer.finish();
        }
    }

    #[test]
    fn a_stuck_output_does_not_hold_the_end() {
        let (release, held) = sync_channel(1);
        let (sink, writer) = start(Target::Other(Box::new(Stuck(held))), None, Lines::Log).unwrap();
        assert!(sink.push(b"line\n".to_vec()));
        assert!(!writer.finish(), "it is left behind");
        drop(release);
    }

    #[test]
    fn no_sink_takes_everything_and_keeps_nothing() {
        let sink = Sink::none();
        assert!(!sink.is_on());
        assert!(sink.write(Format::Json, &record(b"/")));
        assert_eq!(sink.unwritten(), 0);
    }
}
