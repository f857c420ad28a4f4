//! A connection that lets others have their say before it writes.

use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker, ready};

use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Writes one turn of the scheduler later than asked. Whoever is ready by then puts commands into the same write, and so into one packet:
/// to send each by itself takes longer than all the rest of a call. Nobody waits for time to pass, or for the server's
/// acknowledgement as with Nagle's algorithm.
pub(super) struct Gather<S> {
    stream: S,
    progress: Progress,
    turn: Arc<Turn>,
}

/// How far the writing until the next flush is.
enum Progress {
    Nothing,
    Waiting,
    Writing,
}

/// Whether the scheduler has been round. A handler that holds its thread up holds this up, too, as it does all that waits for that thread.
#[derive(Default)]
struct Turn {
    over: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Turn {
    fn wake(self: Arc<Self>) {
        self.over.store(true, Ordering::SeqCst);
        self.task.wake();
    }
}

impl<S> Gather<S> {
    pub(super) fn new(stream: S) -> Self {
        Gather { stream, progress: Progress::Nothing, turn: Arc::default() }
    }

    /// Ready from the turn on after the one it is first asked in, and until the flush. A reply or a further command that wakes the task
    /// before that turn does not count.
    fn turn(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match self.progress {
            Progress::Nothing => {
                self.progress = Progress::Waiting;
                self.turn.over.store(false, Ordering::SeqCst);
                self.turn.task.register(context.waker());
                let waker = Waker::from(Arc::clone(&self.turn));
                // Asked once, it has the scheduler wake us, which is all that is wanted of it.
                ready!(pin!(tokio::task::yield_now()).poll(&mut Context::from_waker(&waker)));
            }
            Progress::Waiting => {
                self.turn.task.register(context.waker());
                if !self.turn.over.load(Ordering::SeqCst) {
                    return Poll::Pending;
                }
            }
            Progress::Writing => {}
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
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}
