//! Io: options of connected sockets.

use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::time::Duration;

use socket2::SockRef;

/// Makes closing `socket` send RST and drop what is unsent: the peer must see that its connection was cut, not finished.
pub fn reset_on_close(socket: &impl AsFd) {
    // Fails only for a descriptor that is no socket.
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

/// [`reset_on_close`] for every TCP connection of this process of which our half is open, and how many those are. For a
/// process that ends: whatever it still carries is cut, and no peer may take a part for the whole.
///
/// # Errors
/// The process cannot see its own descriptors.
pub fn reset_all_on_close() -> io::Result<usize> {
    let mut cut = 0;
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let Some(fd) = entry?.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok()) else { continue };
        if is_sending(fd) {
            // SAFETY: `fd` is not -1, and the borrow ends with this statement. Should it have been closed and reused since it
            // was listed, it is another of this process's sockets, none of which outlives the process that is ending.
            reset_on_close(&unsafe { BorrowedFd::borrow_raw(fd) });
            cut += 1;
        }
    }
    Ok(cut)
}

/// Whether `fd` is a TCP connection that we have not finished: one that has waits for its peer only.
fn is_sending(fd: RawFd) -> bool {
    const ESTABLISHED: u8 = 1;
    const CLOSE_WAIT: u8 = 8;
    // SAFETY: `tcp_info` is integers only, for which all zeros is a value.
    let mut info: libc::tcp_info = unsafe { mem::zeroed() };
    let mut length = mem::size_of_val(&info) as libc::socklen_t;
    // SAFETY: `info` and `length` are live and writable, and `length` is the size of `info`. Any number may be asked about: one
    // that is no TCP socket is an error.
    let outcome =
        unsafe { libc::getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_INFO, (&raw mut info).cast(), &raw mut length) };
    outcome == 0 && matches!(info.tcpi_state, ESTABLISHED | CLOSE_WAIT)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn closing_resets_where_it_would_have_finished() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        for (reset, want) in [(false, Ok(0)), (true, Err(io::ErrorKind::ConnectionReset))] {
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (server, _) = listener.accept().unwrap();
            if reset {
                reset_on_close(&server);
            }
            drop(server);
            assert_eq!(client.read(&mut [0; 8]).map_err(|error| error.kind()), want);
        }
    }
}
