//! Io: options of one connected socket.

use std::os::fd::AsFd;
use std::time::Duration;

use socket2::SockRef;

/// Makes closing `socket` send RST and drop what is unsent: the peer must see that its connection was cut, not finished.
pub fn reset_on_close(socket: &impl AsFd) {
    // Fails only for a descriptor that is no socket.
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read};
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
