//! Io: a connection whose peer has to take an answer within a time, however it dawdles: one that reads nothing, or a byte now and
//! then, holds one of few places.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// From the first write that found no room until all is written, so much may pass.
pub struct Patient<S> {
    stream: S,
    patience: Duration,
    waits: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    pub fn new(stream: S, patience: Duration) -> Patient<S> {
        Patient { stream, patience, waits: None }
    }

    /// What a write came to, unless the time is over.
    fn or_late<T>(&mut self, outcome: Poll<Result<T>>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        if outcome.is_ready() {
            return outcome;
        }
        let patience = self.patience;
        let waits = self.waits.get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(waits.as_mut().poll(cx));
        Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "the answer is not taken")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.or_late(outcome, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.or_late(outcome, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Asked for when all has been written.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(cx);
        if outcome.is_ready() {
            self.waits = None;
        }
        outcome
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::time::timeout;

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(200);
    /// Of what must not be late, however busy the machine is.
    const AMPLE: Duration = Duration::from_secs(2);

    #[tokio::test]
    async fn who_reads_a_byte_now_and_then_is_late_all_the_same_and_who_reads_all_is_not() {
        let (stream, mut peer) = duplex(64);
        let mut patient = Patient::new(stream, PATIENCE);
        let dawdles = async {
            while peer.read_u8().await.is_ok() {
                sleep(PATIENCE / 20).await;
            }
        };
        let writes = async {
            let outcome = timeout(PATIENCE * 50, patient.write_all(&[0; 100_000])).await;
            drop(patient);
            outcome.expect("it ends").unwrap_err()
        };
        let (error, ()) = tokio::join!(writes, dawdles);
        assert_eq!(error.kind(), ErrorKind::TimedOut);

        let (stream, mut peer) = duplex(64);
        let mut patient = Patient::new(stream, AMPLE);
        let mut taken = [0; 128];
        for _ in 0..3 {
            // Each answer finds no room at first, and has a time of its own: all together take longer than one may.
            let (wrote, read) = tokio::join!(
                async {
                    patient.write_all(&[1; 128]).await?;
                    patient.flush().await
                },
                async {
                    sleep(AMPLE * 2 / 5).await;
                    peer.read_exact(&mut taken).await
                }
            );
            wrote.expect("it was taken in time");
            read.unwrap();
        }
    }
}
