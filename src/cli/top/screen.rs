//! Shell: `strata top` on a terminal: looks at the running Strata, draws, and does what keys ask, until it is told to stop.
//!
//! The terminal is as it was afterwards, whatever ends this: a key, a signal, an error or a panic. A Strata that does not answer ends
//! nothing: it is said, and asked again.

use std::future::pending;
use std::io::{self, Write as _};
use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::desk::{Action, Desk, Id, arrange, ids};
use super::rates::{Report, report, text};
use super::{draw, keys};
use crate::admin::Client;
use crate::admin::client::ClientError;
use crate::admin::document::Status;
use crate::base::{Moment, clock, limits};
use crate::health::Intent;
use crate::sys::terminal::{self, Raw};

/// What goes on beside the keys.
type Job<T> = Option<Pin<Box<dyn Future<Output = T>>>>;

pub(super) async fn watch(client: Client, first: Status, desk: Desk, colour: bool) -> anyhow::Result<ExitCode> {
    let mut ends = [SignalKind::terminate(), SignalKind::hangup(), SignalKind::interrupt(), SignalKind::quit()]
        .map(signal)
        .into_iter()
        .collect::<io::Result<Vec<Signal>>>()?;
    let mut resized = signal(SignalKind::window_change())?;
    let mut suspended = signal(SignalKind::from_raw(libc::SIGTSTP))?;
    let (screen, keyboard) = Screen::enter().context("the terminal cannot be taken")?;
    let mut view = View::new(first, desk, colour);
    let mut ticks = ticking(view.desk.interval);
    let (mut look, mut change): (Job<Looked>, Job<Result<String, String>>) = (None, None);
    loop {
        view.draw()?;
        tokio::select! {
            () = any(&mut ends) => return Ok(ExitCode::SUCCESS),
            _ = resized.recv() => {}
            _ = suspended.recv() => screen.suspend()?,
            _ = ticks.tick(), if look.is_none() && !view.desk.paused => look = Some(looking(client.clone())),
            looked = finished(&mut look) => view.looked(looked),
            outcome = finished(&mut change) => {
                view.desk.message = Some(outcome);
                // What it came to is worth a look at once.
                ticks.reset_immediately();
            }
            pressed = read(&keyboard) => {
                let Some(pressed) = pressed? else { return Ok(ExitCode::SUCCESS) };
                for key in keys::keys(&pressed) {
                    match view.press(key) {
                        Action::Redraw => {}
                        Action::Question => break,
                        Action::Quit => return Ok(ExitCode::SUCCESS),
                        Action::Suspend => screen.suspend()?,
                        Action::Interval => ticks = ticking(view.desk.interval),
                        Action::Change(pool, endpoint, intent) if change.is_none() => {
                            change = Some(changing(client.clone(), pool, endpoint, intent));
                        }
                        Action::Change(..) => {
                            view.desk.message = Some(Err("the change before is still under way".to_owned()));
                        }
                    }
                }
            }
        }
    }
}

/// Both looks, and what is made of them.
struct View {
    before: Option<(Status, Moment)>,
    now: (Status, Moment),
    /// In no order.
    report: Report,
    shown: Report,
    rows: Vec<Id>,
    desk: Desk,
    colour: bool,
}

type Looked = (Result<Status, ClientError>, Moment);

impl View {
    fn new(first: Status, desk: Desk, colour: bool) -> View {
        let whole = report(None, &first, Duration::ZERO);
        let now = (first, clock::now());
        let mut view =
            View { before: None, now, report: whole, shown: Report::default(), rows: Vec::new(), desk, colour };
        view.arrange();
        view
    }

    fn looked(&mut self, (answer, at): Looked) {
        match answer {
            Ok(status) => {
                self.before = Some(std::mem::replace(&mut self.now, (status, at)));
                let (before, then) = self.before.as_ref().map_or((None, at), |(status, then)| (Some(status), *then));
                self.report = report(before, &self.now.0, at.since(then));
                self.desk.trouble = None;
            }
            Err(error) => {
                let ago = at.since(self.now.1).as_secs();
                self.desk.trouble = Some(format!("no news for {ago}s, trying again: {}", shown(&error)));
            }
        }
        self.arrange();
    }

    fn arrange(&mut self) {
        self.shown = arrange(&self.report, self.desk.sort, self.desk.reversed, &self.desk.filter);
        self.rows = ids(&self.shown);
        self.desk.settle(&self.rows);
    }

    fn press(&mut self, key: super::desk::Key) -> Action {
        let page = terminal::size().map_or(20, |(_, lines)| usize::from(lines) / 2);
        let action = self.desk.press(key, &self.rows, page);
        self.arrange();
        action
    }

    /// In one write, over what was there: a screen that is cleared first flickers.
    fn draw(&self) -> anyhow::Result<()> {
        let (width, height) = terminal::size().unwrap_or((80, 24));
        let (width, height) = (usize::from(width).min(limits::TOP_SCREEN), usize::from(height).min(limits::TOP_SCREEN));
        let lines = draw::screen(&self.shown, &self.desk, width, height);
        let lines: Vec<String> = lines.iter().map(|line| line.render(width, self.colour, true) + "\x1b[K").collect();
        let mut out = io::stdout().lock();
        write!(out, "\x1b[H{}\x1b[J", lines.join("\r\n")).and_then(|()| out.flush()).context("the terminal has gone")
    }
}

fn looking(client: Client) -> Pin<Box<dyn Future<Output = Looked>>> {
    Box::pin(async move {
        let answer = client.status().await;
        (answer, clock::now())
    })
}

fn changing(
    client: Client,
    pool: String,
    endpoint: String,
    intent: Intent,
) -> Pin<Box<dyn Future<Output = Result<String, String>>>> {
    Box::pin(async move {
        match client.set_intent(&pool, &endpoint, intent).await {
            Ok(()) => Ok(format!("{} {}: {}", text(&pool), text(&endpoint), intent.word())),
            Err(error) => Err(shown(&error)),
        }
    })
}

/// An error has a line of its own.
fn shown(error: &ClientError) -> String {
    super::super::status::clean(&error.to_string())
}

/// Waits for a job; for ever where there is none.
async fn finished<T>(job: &mut Job<T>) -> T {
    let Some(running) = job else { return pending().await };
    let outcome = running.as_mut().await;
    *job = None;
    outcome
}

async fn any(signals: &mut [Signal]) {
    std::future::poll_fn(|context| {
        if signals.iter_mut().any(|signal| signal.poll_recv(context).is_ready()) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
}

/// What was pressed; `None` where the terminal has gone.
async fn read(keyboard: &AsyncFd<Raw>) -> io::Result<Option<Vec<u8>>> {
    let mut buffer = [0; 256];
    loop {
        let mut ready = keyboard.readable().await?;
        match ready.get_inner().read(&mut buffer) {
            // Nothing is left; or, with the other end closed, nothing will come.
            Ok(0) if ready.ready().is_read_closed() => return Ok(None),
            Ok(0) => ready.clear_ready(),
            Ok(got) => return Ok(Some(buffer.get(..got).unwrap_or_default().to_vec())),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.raw_os_error() == Some(libc::EIO) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

fn ticking(every: Duration) -> tokio::time::Interval {
    let mut ticks = interval_at(Instant::now() + every, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// The alternate screen, without a cursor and without lines that wrap.
struct Screen(());

impl Screen {
    fn enter() -> io::Result<(Screen, AsyncFd<Raw>)> {
        let keyboard = Raw::enter()?.awaited()?;
        // A panic prints where it is read: after the terminal is as it was.
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            leave();
            before(info);
        }));
        let screen = Screen(());
        emit(TAKE)?;
        Ok((screen, keyboard))
    }

    /// Gives the terminal to whoever else runs in it, and takes it again once it is this process's turn.
    fn suspend(&self) -> anyhow::Result<()> {
        leave();
        terminal::stop_here().context("it cannot be suspended")?;
        terminal::make_raw().and_then(|()| emit(TAKE)).context("the terminal cannot be taken again")
    }
}

/// The alternate screen; no cursor; no lines that wrap.
const TAKE: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";

impl Drop for Screen {
    fn drop(&mut self) {
        leave();
    }
}

fn leave() {
    // There is nobody left to tell.
    let _ = emit("\x1b[?7h\x1b[?25h\x1b[?1049l");
    terminal::restore();
}

fn emit(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read as _;
    use std::os::fd::OwnedFd;
    use std::process::{Command, Stdio};

    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use rustix::termios::tcgetattr;

    use super::*;

    /// On a terminal of its own, by the test after it.
    #[tokio::test]
    #[ignore = "panics: the next one runs it"]
    async fn a_mistake_on_a_terminal() {
        let _screen = Screen::enter().expect("a terminal");
        panic!("a mistake of top");
    }

    #[test]
    fn a_panic_leaves_the_terminal_as_it_was_and_is_read_there() {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).and_then(|()| unlockpt(&master)).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let terminal = File::options().read(true).write(true).open(name).unwrap();
        let modes = |at: &File| {
            let modes = tcgetattr(at).unwrap();
            (modes.input_modes, modes.output_modes, modes.control_modes, modes.local_modes)
        };
        let before = modes(&terminal);
        let end = || Stdio::from(OwnedFd::from(terminal.try_clone().unwrap()));
        let name = "cli::top::screen::tests::a_mistake_on_a_terminal";
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--ignored", "--nocapture", "--test-threads", "1"])
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        // Somebody has to look: modes are set once all that was written has been taken.
        let mut screen = File::from(master);
        let reader = std::thread::spawn(move || {
            let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
            // It ends with an error once the other end is closed.
            while let Ok(got @ 1..) = screen.read(&mut buffer) {
                seen.extend_from_slice(&buffer[..got]);
            }
            seen
        });
        assert!(!child.wait().unwrap().success(), "it panics");
        assert_eq!(modes(&terminal), before);
        drop(terminal);
        let seen = reader.join().unwrap();
        let seen = String::from_utf8_lossy(&seen);
        let at = |what: &str| seen.find(what).unwrap_or_else(|| panic!("no {what:?} in {seen:?}"));
        assert!(at(TAKE) < at("\x1b[?1049l") && at("\x1b[?1049l") < at("a mistake of top"), "{seen:?}");
    }
}
