//! Io: what the kernel has counted of this process, for the metrics that every exporter has: processor time, memory, threads, start.
//!
//! Processor time in microseconds: what is counted in whole seconds, as by the `prometheus` crate, has no rate over a minute.

use std::fs;
use std::io;
use std::time::Duration;

/// As it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vitals {
    /// In user and kernel mode, of all threads that are and were.
    pub processor: Duration,
    pub resident_bytes: u64,
    pub virtual_bytes: u64,
    pub threads: u64,
}

/// # Errors
/// `/proc` cannot be read, or says what it should not.
pub fn vitals() -> io::Result<Vitals> {
    let stat = stat()?;
    let page = number_of(libc::_SC_PAGESIZE)?;
    Ok(Vitals {
        processor: processor()?,
        resident_bytes: stat.field(RESIDENT_PAGES)?.saturating_mul(page),
        virtual_bytes: stat.field(VIRTUAL_BYTES)?,
        threads: stat.field(THREADS)?,
    })
}

/// When this process began, Unix time. To be asked once: the kernel's time of boot follows every correction of the clock, and what
/// changes here looks like another process.
///
/// # Errors
/// `/proc` cannot be read, or says what it should not.
pub fn started_at() -> io::Result<Duration> {
    let ticks = stat()?.field(STARTED_TICKS)?;
    let text = fs::read_to_string("/proc/stat")?;
    let boot = text.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok());
    let boot = boot.ok_or_else(|| io::Error::other("/proc/stat has no btime"))?;
    let (whole, rest) = (number_of(libc::_SC_CLK_TCK)?, 1_000_000_000);
    let nanos = u128::from(ticks) * rest / u128::from(whole);
    Ok(Duration::from_secs(boot) + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
}

fn processor() -> io::Result<Duration> {
    // SAFETY: a `rusage` is made of integers, for which zeros are a valid value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is a live, writable `rusage`, the type that this call fills.
    if unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) } == -1 {
        return Err(io::Error::last_os_error());
    }
    let time = |time: libc::timeval| {
        let part = |part: i64| u64::try_from(part).unwrap_or(0);
        Duration::from_secs(part(time.tv_sec)) + Duration::from_micros(part(time.tv_usec))
    };
    Ok(time(usage.ru_utime) + time(usage.ru_stime))
}

/// A constant of the system that is above 0.
fn number_of(name: libc::c_int) -> io::Result<u64> {
    // SAFETY: this call takes a number and no pointer.
    let value = unsafe { libc::sysconf(name) };
    u64::try_from(value).ok().filter(|value| *value > 0).ok_or_else(|| io::Error::other("sysconf says nothing"))
}

/// `/proc/self/stat` behind the name, which may have blanks and brackets in it: proc(5) counts its fields from 3.
struct Stat(String);

fn stat() -> io::Result<Stat> {
    let text = fs::read_to_string("/proc/self/stat")?;
    let (_, behind) = text.rsplit_once(')').ok_or_else(|| io::Error::other("/proc/self/stat has no name"))?;
    Ok(Stat(behind.to_owned()))
}

impl Stat {
    fn field(&self, number: usize) -> io::Result<u64> {
        let field = self.0.split_ascii_whitespace().nth(number - 3).and_then(|field| field.parse().ok());
        field.ok_or_else(|| io::Error::other(format!("/proc/self/stat has no field {number}")))
    }
}

const THREADS: usize = 20;
const STARTED_TICKS: usize = 22;
const VIRTUAL_BYTES: usize = 23;
const RESIDENT_PAGES: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_is_counted() {
        let before = vitals().unwrap();
        let page = number_of(libc::_SC_PAGESIZE).unwrap();
        // Touched, so that it is there.
        let held = vec![1_u8; 64 << 20];
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || stopped.recv());
        let mut sum = 0_u64;
        let spent = |now: Vitals| now.processor.saturating_sub(before.processor);
        // Less than a tick of the kernel's, and a hundred times less than a second.
        while spent(vitals().unwrap()) < Duration::from_millis(5) {
            sum = held.iter().step_by(4096).fold(sum, |sum, byte| sum.wrapping_add(u64::from(*byte)));
        }
        let after = vitals().unwrap();
        // Other tests take and give back meanwhile, but not all of this.
        assert!(after.resident_bytes >= 64 << 20 && after.virtual_bytes >= after.resident_bytes, "{after:?} {sum}");
        assert!([before, after].iter().any(|now| now.processor.subsec_nanos() != 0), "whole seconds only: {after:?}");
        assert!(after.resident_bytes.is_multiple_of(page) && after.threads >= 2, "{after:?}");
        drop(stop);
        assert!(thread.join().unwrap().is_err());
    }

    #[test]
    fn the_start_is_before_now_and_does_not_move() {
        let started = started_at().unwrap();
        // What a file that is made now says of its time.
        let path = std::env::temp_dir().join(format!("strata-vitals-{}", std::process::id()));
        fs::write(&path, []).unwrap();
        let made = fs::metadata(&path).unwrap().modified().unwrap();
        fs::remove_file(&path).unwrap();
        let now = made.duration_since(std::time::UNIX_EPOCH).unwrap();
        // The time of boot is in whole seconds.
        assert!(started <= now + Duration::from_secs(2), "{started:?} {now:?}");
        assert!(now < started + Duration::from_secs(24 * 3600), "{started:?} {now:?}");
        assert!(started_at().unwrap().abs_diff(started) <= Duration::from_secs(1));
    }
}
