//! Io: the terminal on standard input and output: keys as they are pressed, without echo; its size; and as it was, afterwards.
//!
//! Not here: what is drawn, nor what keys mean (`cli/top`).

use std::io::{self, IsTerminal as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd, OwnedFd, RawFd};

use parking_lot::Mutex;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::check;

/// How the terminal was before; for whoever has to put it back, a panic among them.
static BEFORE: Mutex<Option<libc::termios>> = Mutex::new(None);

/// Standard input in raw mode; as it was when this is dropped.
#[derive(Debug)]
pub struct Raw {
    input: OwnedFd,
}

impl Raw {
    /// Every byte comes as it is pressed, those that would be signals (^C) too, and a read never waits.
    ///
    /// # Errors
    /// Standard input is no terminal, or the kernel said no.
    pub fn enter() -> io::Result<Raw> {
        let input = io::stdin().as_fd().try_clone_to_owned()?;
        make_raw()?;
        Ok(Raw { input })
    }

    /// For waiting until a key is pressed.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn awaited(self) -> io::Result<AsyncFd<Raw>> {
        // SAFETY: the descriptor is owned by `self`, which the result owns: it is open, and the same, for as long.
        Ok(unsafe { AsyncFd::register_with_interest(self, Interest::READABLE) }?)
    }

    /// What was pressed, possibly nothing.
    ///
    /// # Errors
    /// What the kernel said: the terminal has gone.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        // SAFETY: the pointer and the length are those of one live, writable buffer.
        let got = unsafe { libc::read(self.input.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
        usize::try_from(got).map_err(|_| io::Error::last_os_error())
    }
}

impl AsRawFd for Raw {
    fn as_raw_fd(&self) -> RawFd {
        self.input.as_raw_fd()
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

/// Raw mode, where it is not in force: how the terminal is now is how it will be again.
///
/// # Errors
/// Standard input is no terminal, or the kernel said no.
pub fn make_raw() -> io::Result<()> {
    let mut held = BEFORE.lock();
    let before = attributes()?;
    let mut raw = before;
    // SAFETY: `raw` is a live, initialised `termios` that this function changes in place.
    unsafe { libc::cfmakeraw(&raw mut raw) };
    raw.c_cc[libc::VMIN] = 0;
    raw.c_cc[libc::VTIME] = 0;
    set(&raw)?;
    held.get_or_insert(before);
    Ok(())
}

/// Stops this process and those it runs with, as ^Z does, until somebody has them go on (SIGCONT). Where nobody could (a group
/// without a shell that knows jobs: `docker exec`, `ssh -t`), the kernel lets them go on at once.
///
/// # Errors
/// The kernel said no.
pub fn stop_here() -> io::Result<()> {
    // Meanwhile nobody listens for it: only what the kernel does by itself spares who could not be woken. SIGSTOP would not.
    let mut listens = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: a `sigaction` of zeros is one: the kernel's own doing, no flags, and no signal held back.
    let by_itself: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: the first is live and only read, the second is writable, and this call fills it.
    check(unsafe { libc::sigaction(libc::SIGTSTP, &raw const by_itself, listens.as_mut_ptr()) })?;
    // SAFETY: sends a signal to the processes of this group, and touches no memory.
    let stopped = check(unsafe { libc::kill(0, libc::SIGTSTP) });
    // SAFETY: the first call succeeded, so this is what it filled, and is only read.
    check(unsafe { libc::sigaction(libc::SIGTSTP, listens.as_ptr(), std::ptr::null_mut()) })?;
    stopped.map(drop)
}

/// Puts the terminal back; nothing where it was, or is, as it was.
pub fn restore() {
    if let Some(before) = BEFORE.lock().take() {
        // There is nobody left to tell.
        let _ = set(&before);
    }
}

/// Whether somebody looks at it and can press keys.
pub fn is_there() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// Columns and lines of the terminal on standard output; `None` where it is none or does not say.
pub fn size() -> Option<(u16, u16)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: this request fills the `winsize` that it is given, which is live and writable.
    let result = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) };
    (result == 0 && size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col, size.ws_row))
}

fn attributes() -> io::Result<libc::termios> {
    let mut now = MaybeUninit::<libc::termios>::uninit();
    // SAFETY: this call fills the `termios` that it is given, which is writable.
    check(unsafe { libc::tcgetattr(libc::STDIN_FILENO, now.as_mut_ptr()) })?;
    // SAFETY: the call above succeeded, so it is initialised.
    Ok(unsafe { now.assume_init() })
}

fn set(to: &libc::termios) -> io::Result<()> {
    // SAFETY: `to` is a live, initialised `termios`, only read by this call.
    check(unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSADRAIN, std::ptr::from_ref(to)) }).map(drop)
}
