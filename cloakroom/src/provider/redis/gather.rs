//! A connection that lets others have their say before it writes.

use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::link::Health;

/// Writes when it is polled once more after it was asked to: by a further command, by a reply, or at the latest when the scheduler has been
/// round. Whoever is ready by then puts commands into the same write, and so into one packet: to send each by itself takes longer than
/// all the rest of a call. Nobody waits for time to pass, or for the server's acknowledgement as with Nagle's algorithm.
///
/// To wait for the scheduler's round in any case makes larger packets, and leaves a busy server with nothing to do meanwhile: the fewer
/// requests a second.
pub(super) struct Gather<S> {
    stream: S,
    progress: Progress,
    /// Told of every byte that is read, also of replies to calls that were dropped.
    health: Arc<Health>,
}

/// How far the writing until the next flush is.
enum Progress {
    Nothing,
    Waiting,
    Writing,
}

impl<S> Gather<S> {
    pub(super) fn new(stream: S, health: Arc<Health>) -> Self {
        Gather { stream, progress: Progress::Nothing, health }
    }

    fn turn(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Progress::Nothing = self.progress {
            self.progress = Progress::Waiting;
            // Asked once, it has the scheduler wake the task in its next round, which is all that is wanted of it.
            ready!(pin!(tokio::task::yield_now()).poll(context));
        }
        self.progress = Progress::Writing;
        Poll::Ready(())
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gather<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.turn(context));
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.turn(context));
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        self.progress = Progress::Nothing;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gather<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.health.heard();
        }
        read
    }
}
