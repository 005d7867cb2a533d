//! A real browser: Debian's Chromium without a screen, driven over WebDriver, which is JSON over HTTP.
//!
//! It resolves no name and reaches nothing but loopback; what it would have asked for elsewhere is in `requested` all the same.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use serde_json::{Value, json};

use super::common::{Wire, holds_within, skip};

/// A browser starts slowly on a machine that is busy; nothing waits for so long that goes well.
const PATIENCE: Duration = Duration::from_secs(60);
/// Keys as WebDriver names them.
pub const TAB: &str = "\u{e004}";
pub const ENTER: &str = "\u{e007}";
pub const ESCAPE: &str = "\u{e00c}";
pub const DOWN: &str = "\u{e015}";

/// One at a time: two would only make each other slow.
static ONE: Mutex<()> = Mutex::new(());

pub struct Browser {
    driver: Child,
    address: SocketAddr,
    session: String,
    folder: PathBuf,
    _one: MutexGuard<'static, ()>,
}

impl Browser {
    /// `None` where there is no browser, and that is said.
    pub fn start(test: &str) -> Option<Browser> {
        let one = ONE.lock();
        let folder = std::env::temp_dir().join(format!("strata-browser-{}-{test}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for the browser");
        let started = Command::new("chromedriver")
            .arg("--port=0")
            .env("TMPDIR", &folder)
            .env("HOME", &folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut driver) = started else {
            let _ = std::fs::remove_dir_all(&folder);
            skip(test, "there is no chromedriver (Debian: chromium-driver)");
            return None;
        };
        let port = port_of(&mut driver);
        let mut browser =
            Browser { driver, address: ([127, 0, 0, 1], port).into(), session: String::new(), folder, _one: one };
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-default-apps",
            "--disable-extensions",
            "--disable-sync",
            "--no-first-run",
            "--force-color-profile=srgb",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.*",
            "--window-size=1440,1000",
        ];
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
        } } });
        let made = browser.call("POST", "/session", &wanted);
        browser.session = made["sessionId"].as_str().expect("a session").to_owned();
        Some(browser)
    }

    /// Loads a page, and collects from then on what its policy forbids.
    pub fn open(&self, url: &str) {
        let collect = "window.violations = []; addEventListener('securitypolicyviolation', (event) => \
                       window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));";
        self.devtools("Page.addScriptToEvaluateOnNewDocument", &json!({ "source": collect }));
        self.post("url", &json!({ "url": url }));
    }

    /// Loads the page anew, and waits until the old one is gone.
    pub fn reload(&self) {
        self.run("window.old = true; location.reload();");
        self.await_that("window.old === undefined && document.readyState === 'complete'");
    }

    /// What the body of a function returns in the page.
    pub fn run(&self, script: &str) -> Value {
        self.post("execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// What a promise of the page comes to.
    pub fn run_promise(&self, promise: &str) -> Value {
        let script = format!("const done = arguments[0]; ({promise}).then(done, (error) => done(`${{error}}`));");
        self.post("execute/async", &json!({ "script": script, "args": [] }))
    }

    /// Waits until an expression holds in the page.
    #[track_caller]
    pub fn await_that(&self, expression: &str) {
        let script = format!("return Boolean({expression});");
        let holds = holds_within(PATIENCE / 2, || self.run(&script) == true);
        let shown = || self.text("body").chars().take(4000).collect::<String>();
        assert!(holds, "waited for {expression}; the page says:\n{}", shown());
    }

    /// What is read at the first element that a selector finds.
    pub fn text(&self, selector: &str) -> String {
        let found = self.run(&format!("return document.querySelector({})?.innerText ?? null;", json!(selector)));
        found.as_str().unwrap_or_default().to_owned()
    }

    /// Presses keys, one after the other, at whatever has the focus.
    pub fn press(&self, keys: &str) {
        let strokes: Vec<Value> = keys
            .chars()
            .flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key.to_string() })))
            .collect();
        self.post("actions", &json!({ "actions": [{ "type": "key", "id": "keys", "actions": strokes }] }));
    }

    pub fn click(&self, selector: &str) {
        self.run(&format!("document.querySelector({}).click();", json!(selector)));
    }

    /// A screen of this width, as of a phone.
    pub fn resize(&self, width: u32, height: u32) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.devtools("Emulation.setDeviceMetricsOverride", &metrics);
    }

    /// What the system would prefer: `light`, `dark`.
    pub fn prefer(&self, scheme: &str) {
        let features = json!([
            { "name": "prefers-color-scheme", "value": scheme },
            { "name": "prefers-reduced-motion", "value": "reduce" },
        ]);
        self.devtools("Emulation.setEmulatedMedia", &json!({ "features": features }));
    }

    /// A picture of the whole page, where `STRATA_SHOTS` names a folder for them: for eyes, not for the test.
    pub fn shoot(&self, name: &str) {
        let Some(folder) = std::env::var_os("STRATA_SHOTS") else { return };
        let size = |of: &str| self.run(&format!("return {of};")).as_u64().and_then(|size| u32::try_from(size).ok());
        let [width, height] = ["innerWidth", "innerHeight"].map(|of| size(of).unwrap_or(1000));
        // What is not on the screen is not drawn: for a moment all of it is.
        for _ in 0..2 {
            let whole = size("document.documentElement.scrollHeight").unwrap_or(height);
            self.resize(width, whole.clamp(height, 2600));
            let drawn = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))";
            self.run_promise(drawn);
        }
        let data = self.devtools("Page.captureScreenshot", &json!({ "format": "png" }));
        self.resize(width, height);
        let bytes = base64(data["data"].as_str().expect("a picture"));
        std::fs::write(PathBuf::from(folder).join(format!("{name}.png")), bytes).expect("a picture");
    }

    /// What the console has since the last time: mistakes of the page, and what its policy forbade.
    pub fn complaints(&self) -> Vec<String> {
        let logged = self.log("browser");
        let console = logged.iter().map(|entry| format!("{}: {}", entry["level"], entry["message"]));
        let found = self.run("return window.violations ?? [];");
        console.chain(found.as_array().into_iter().flatten().map(|each| format!("policy: {each}"))).collect()
    }

    /// Every address that was asked for since the last time.
    pub fn requested(&self) -> Vec<String> {
        let entries = self.log("performance");
        let url = |entry: &Value| {
            let event: Value = serde_json::from_str(entry["message"].as_str()?).ok()?;
            let message = &event["message"];
            let asks = message["method"] == "Network.requestWillBeSent";
            asks.then(|| message["params"]["request"]["url"].as_str().map(str::to_owned))?
        };
        entries.iter().filter_map(url).collect()
    }

    fn log(&self, kind: &str) -> Vec<Value> {
        self.post("se/log", &json!({ "type": kind })).as_array().cloned().unwrap_or_default()
    }

    fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.post("goog/cdp/execute", &json!({ "cmd": command, "params": parameters }))
    }

    fn post(&self, what: &str, body: &Value) -> Value {
        self.call("POST", &format!("/session/{}/{what}", self.session), body)
    }

    #[track_caller]
    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        match self.asked(method, path, body) {
            Ok(value) => value,
            Err(why) => panic!("the browser, asked for {path}: {why}"),
        }
    }

    fn asked(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let body = body.to_string();
        let mut wire = Wire::connect(self.address);
        wire.patience(PATIENCE);
        wire.send(format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        let answer = wire.response().map_err(|broken| format!("{broken:?}"))?;
        let mut document: Value = serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
        match answer.status() {
            200 => Ok(document["value"].take()),
            status => Err(format!("{status}: {}", document["value"]["message"])),
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "--- the browser's console\n{:?}",
                self.asked("POST", &format!("/session/{}/se/log", self.session), &json!({ "type": "browser" }))
            );
        }
        // It ends the browser, and its folder can go.
        let _ = self.asked("DELETE", &format!("/session/{}", self.session), &json!({}));
        let _ = self.driver.kill();
        let _ = self.driver.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// It says on which port it listens.
fn port_of(driver: &mut Child) -> u16 {
    let mut lines = BufReader::new(driver.stdout.take().expect("its output")).lines();
    let said = lines.by_ref().map_while(Result::ok).find_map(|line| {
        let (_, after) = line.split_once("on port ")?;
        after.trim_end_matches('.').parse().ok().filter(|port| *port != 0)
    });
    // It must not block when it says more.
    std::thread::spawn(move || lines.for_each(drop));
    said.expect("chromedriver says its port")
}

fn base64(text: &str) -> Vec<u8> {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits: Vec<u32> = text
        .bytes()
        .filter_map(|byte| LETTERS.iter().position(|letter| *letter == byte))
        .filter_map(|digit| u32::try_from(digit).ok())
        .collect();
    let mut bytes = Vec::new();
    for four in digits.chunks(4) {
        let word = four.iter().enumerate().fold(0, |word, (at, digit)| word | digit << (18 - 6 * at));
        bytes.extend(word.to_be_bytes().iter().skip(1).take(four.len() - 1));
    }
    bytes
}
