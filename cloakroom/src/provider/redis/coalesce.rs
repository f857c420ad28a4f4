//! A stream that coalesces writes: each waits one turn of the scheduler, so that commands share a packet.

use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connection::Health;

/// A stream that delays each write until its task is polled again.
///
/// A further command, a reply or the scheduler's next turn polls the task. Calls that are ready by then add their commands
/// to the same write, and so to the same packet. Sending a packet takes longer than the rest of a call, so this pays:
/// 64 concurrent loads took a third less time. No timer is involved, and no wait for an acknowledgement as in Nagle's
/// algorithm.
///
/// Waiting for the scheduler's turn in every case makes larger packets, but a busy server idles meanwhile. That was slower.
pub(super) struct CoalescingStream<S> {
    stream: S,
    state: WriteState,
    /// Records every read, including the replies to dropped calls.
    health: Arc<Health>,
}

/// The progress of the write that ends with the next flush.
enum WriteState {
    Idle,
    Waiting,
    Writing,
}

impl<S> CoalescingStream<S> {
    pub(super) fn new(stream: S, health: Arc<Health>) -> Self {
        CoalescingStream { stream, state: WriteState::Idle, health }
    }

    fn poll_turn(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let WriteState::Idle = self.state {
            self.state = WriteState::Waiting;
            // The first poll makes the scheduler wake this task in its next turn. Nothing else is needed of it.
            ready!(pin!(tokio::task::yield_now()).poll(context));
        }
        self.state = WriteState::Writing;
        Poll::Ready(())
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for CoalescingStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_turn(context));
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_turn(context));
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        self.state = WriteState::Idle;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for CoalescingStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.health.note_bytes_read();
        }
        read
    }
}
