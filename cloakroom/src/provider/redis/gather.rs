//! A connection that lets others have their say before it writes.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Writes one turn of the scheduler later than asked. Whoever is ready by then puts commands into the same write, and so into one packet:
/// to send each by itself takes longer than all the rest of a call. Nobody waits for time to pass, or for the server's
/// acknowledgement as with Nagle's algorithm.
pub(super) struct Gather<S> {
    stream: S,
    /// What is waited for before the next write.
    turn: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<S> Gather<S> {
    pub(super) fn new(stream: S) -> Self {
        Gather { stream, turn: None }
    }

    fn turn(&mut self, context: &mut Context<'_>) -> Poll<()> {
        // A task that wakes itself would be the next to run.
        let turn = self.turn.get_or_insert_with(|| Box::pin(tokio::task::yield_now()));
        ready!(turn.as_mut().poll(context));
        self.turn = None;
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
        Pin::new(&mut self.stream).poll_flush(context)
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
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}
