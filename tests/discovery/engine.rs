//! A Docker engine of the test's own, on a unix socket: it has the containers that a test gives it, tells of what the test does to
//! them, and fails as it is told to.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Shutdown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::SystemTime;

use parking_lot::Mutex;
use serde_json::{Value, json};

use super::common::await_that;

/// The engine. Dropping it ends it.
pub struct Engine {
    pub socket: PathBuf,
    inner: Arc<Inner>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Inner {
    containers: Mutex<BTreeMap<String, Value>>,
    /// Connections that wait for events.
    listeners: Mutex<Vec<UnixStream>>,
    /// All connections, to be cut.
    open: Mutex<Vec<UnixStream>>,
    /// Every request line.
    asked: Mutex<Vec<String>>,
    faults: Mutex<Faults>,
    stop: AtomicBool,
    next_id: AtomicU64,
}

/// What goes wrong.
#[derive(Clone, Default)]
pub struct Faults {
    /// The list is these bytes.
    pub list: Option<Vec<u8>>,
    /// What is said of this container is these bytes.
    pub inspect: Option<(String, Vec<u8>)>,
    /// Nothing is said of this container at all.
    pub silent: Option<String>,
    /// Every answer has this status.
    pub status: Option<u16>,
    /// Whatever is said of one container has this status.
    pub inspects: Option<u16>,
}

impl Engine {
    pub fn start(folder: &Path) -> Engine {
        let socket = folder.join("engine.sock");
        let mut engine = Engine { socket, inner: Arc::default(), accepting: None };
        engine.listen();
        engine
    }

    fn listen(&mut self) {
        let listener = UnixListener::bind(&self.socket).expect("the engine's socket");
        self.inner.stop.store(false, Relaxed);
        let inner = self.inner.clone();
        self.accepting = Some(thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(stream), false) = (stream, inner.stop.load(Relaxed)) else { return };
                inner.open.lock().push(stream.try_clone().expect("a second handle"));
                let inner = inner.clone();
                thread::spawn(move || inner.serve(stream));
            }
        }));
    }

    /// The engine ends, and its socket with it. Containers go on.
    pub fn die(&mut self) {
        self.inner.stop.store(true, Relaxed);
        let _ = UnixStream::connect(&self.socket);
        if let Some(accepting) = self.accepting.take() {
            accepting.join().expect("the accepting thread");
        }
        let _ = std::fs::remove_file(&self.socket);
        self.inner.listeners.lock().clear();
        for stream in self.inner.open.lock().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// It is there again, with what it had, and what the test did meanwhile.
    pub fn revive(&mut self) {
        self.listen();
    }

    /// Runs a container at `ip` that exposes `port`, and says so.
    pub fn run(&self, name: &str, ip: IpAddr, port: u16, labels: &[(&str, &str)]) {
        let id = format!("{:064x}", self.inner.next_id.fetch_add(1, Relaxed) + 0xc0de);
        let labels: BTreeMap<&str, &str> = labels.iter().copied().collect();
        let container = json!({
            "Id": id,
            "Name": format!("/{name}"),
            "Created": now(),
            "State": { "Status": "running", "StartedAt": now() },
            "Config": { "Labels": labels, "ExposedPorts": { format!("{port}/tcp"): {} }, "StopSignal": "SIGTERM" },
            "HostConfig": { "NetworkMode": "edge" },
            "NetworkSettings": { "Networks": { "edge": { "IPAddress": ip.to_string() } } },
        });
        self.inner.containers.lock().insert(name.to_owned(), container);
        self.tell(name, "start", &[]);
    }

    /// Changes what is known of a container, and says that `action` happened.
    pub fn change(&self, name: &str, action: &str, change: impl FnOnce(&mut Value)) {
        self.set(name, change);
        self.tell(name, action, &[]);
    }

    /// The same, and nobody hears of it.
    pub fn set(&self, name: &str, change: impl FnOnce(&mut Value)) {
        change(self.inner.containers.lock().get_mut(name).expect("a container of that name"));
    }

    pub fn id(&self, name: &str) -> String {
        self.inner.containers.lock()[name]["Id"].as_str().expect("an id").to_owned()
    }

    pub fn state(&self, name: &str, action: &str, status: &str) {
        self.change(name, action, |container| container["State"]["Status"] = status.into());
    }

    pub fn health(&self, name: &str, status: &str) {
        let action = format!("health_status: {status}");
        self.change(name, &action, |container| container["State"]["Health"] = json!({ "Status": status }));
    }

    /// What `docker stop` does first.
    pub fn signal(&self, name: &str, signal: u8) {
        self.tell(name, "kill", &[("signal", &signal.to_string())]);
    }

    /// Its process ends.
    pub fn end(&self, name: &str) {
        self.state(name, "die", "exited");
    }

    pub fn remove(&self, name: &str) {
        let line = self.line(name, "destroy", &[]);
        self.inner.containers.lock().remove(name);
        self.send(&line);
    }

    /// The same, and nobody hears of it.
    pub fn remove_silently(&self, name: &str) {
        self.inner.containers.lock().remove(name);
    }

    pub fn tell(&self, name: &str, action: &str, attributes: &[(&str, &str)]) {
        let line = self.line(name, action, attributes);
        self.send(&line);
    }

    /// An event, as it is written.
    pub fn line(&self, name: &str, action: &str, attributes: &[(&str, &str)]) -> Vec<u8> {
        let containers = self.inner.containers.lock();
        let container = &containers[name];
        let mut all = container["Config"]["Labels"].clone();
        all["name"] = name.into();
        for (key, value) in attributes {
            all[*key] = (*value).into();
        }
        let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock").as_nanos();
        let event = json!({
            "status": action, "id": container["Id"], "Type": "container", "Action": action,
            "Actor": { "ID": container["Id"], "Attributes": all },
            "time": u64::try_from(nanos / 1_000_000_000).expect("seconds"), "timeNano": u64::try_from(nanos).expect("nanoseconds"),
        });
        format!("{event}\n").into_bytes()
    }

    /// Sends bytes of the stream of events, as one chunk.
    pub fn send(&self, bytes: &[u8]) {
        self.inner.listeners.lock().retain_mut(|stream| {
            let chunk = [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
            stream.write_all(&chunk).is_ok()
        });
    }

    /// How many wait for events.
    pub fn listeners(&self) -> usize {
        self.inner.listeners.lock().len()
    }

    pub fn fault(&self, faults: Faults) {
        *self.inner.faults.lock() = faults;
    }

    pub fn asked(&self) -> Vec<String> {
        self.inner.asked.lock().clone()
    }

    pub fn asked_for(&self, what: &str) -> usize {
        self.asked().iter().filter(|line| line.contains(what)).count()
    }

    /// Waits until somebody listens to events, and has the list.
    #[track_caller]
    pub fn await_followed(&self, lists: usize) {
        await_that("somebody follows the engine", || {
            !self.inner.listeners.lock().is_empty() && self.asked_for("/containers/json") >= lists
        });
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.die();
    }
}

impl Inner {
    fn serve(&self, mut stream: UnixStream) {
        let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            match reader.read_line(&mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) if line.trim().is_empty() => break,
                Ok(_) => lines.push(line.trim().to_owned()),
            }
        }
        let request = lines.first().cloned().unwrap_or_default();
        self.asked.lock().push(request.clone());
        let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
        let path = path.split('?').next().unwrap_or_default();
        let faults = self.faults.lock().clone();
        if let Some(status) = faults.status {
            let _ = stream.write_all(&answer(status, b"{\"message\":\"not today\"}"));
            return;
        }
        let known = |name: &str| self.containers.lock().get(name).map(|one| one["Id"].clone());
        let plain = path.strip_prefix("/v1.41").unwrap_or(path);
        let reply = match plain {
            "/_ping" => answer(200, b"OK"),
            "/events" => {
                let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
                // Whoever has the head hears of everything from here on.
                let mut listeners = self.listeners.lock();
                let _ = stream.write_all(head.as_bytes());
                listeners.push(stream);
                return;
            }
            "/containers/json" => match faults.list {
                Some(bytes) => answer(200, &bytes),
                None => answer(200, self.list().as_bytes()),
            },
            _ => {
                let id =
                    plain.strip_prefix("/containers/").and_then(|rest| rest.strip_suffix("/json")).unwrap_or_default();
                let is = |name: &str| known(name).is_some_and(|known| known == id);
                if faults.silent.is_some_and(|name| is(&name)) {
                    // Until the connection is given up.
                    let _ = reader.read_line(&mut String::new());
                    return;
                }
                if let Some(status) = faults.inspects {
                    let _ = stream.write_all(&answer(status, b"{\"message\":\"nothing of containers\"}"));
                    return;
                }
                let found = self.containers.lock().values().find(|one| one["Id"] == id).map(Value::to_string);
                match (faults.inspect.filter(|(name, _)| is(name)), found) {
                    (Some((_, bytes)), _) => answer(200, &bytes),
                    (None, Some(found)) => answer(200, found.as_bytes()),
                    (None, None) => answer(404, format!("{{\"message\":\"No such container: {id}\"}}").as_bytes()),
                }
            }
        };
        let _ = stream.write_all(&reply);
    }

    fn list(&self) -> String {
        let containers = self.containers.lock();
        let runs = |one: &&Value| one["State"]["Status"] != "exited";
        let line = |one: &Value| json!({ "Id": one["Id"], "Names": [one["Name"]], "Labels": one["Config"]["Labels"] });
        Value::Array(containers.values().filter(runs).map(line).collect()).to_string()
    }
}

fn answer(status: u16, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status} X\r\nApi-Version: 1.41\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// As engines write times. Of this year, and later than any before.
fn now() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock");
    let (seconds, nanos) = (now.as_secs(), now.subsec_nanos());
    let output =
        std::process::Command::new("date").args(["-u", "-d", &format!("@{seconds}"), "+%Y-%m-%dT%H:%M:%S"]).output();
    let text = String::from_utf8(output.expect("date").stdout).expect("digits");
    format!("{}.{nanos:09}Z", text.trim())
}
