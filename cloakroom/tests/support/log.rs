//! The log of one thread, down to TRACE.

use std::cell::RefCell;
use std::io;
use std::sync::Once;

use tracing_subscriber::filter::LevelFilter;

/// The log of this thread from now on. All threads share one subscriber. With one for each thread, `tracing` would
/// cache a line as disabled if a thread without a subscriber reached it first.
pub(crate) struct Log(());

thread_local! {
    static TEXT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A writer to the log of the current thread.
struct ThisThread;

impl Log {
    pub(crate) fn start() -> Self {
        static SUBSCRIBER: Once = Once::new();
        SUBSCRIBER.call_once(|| {
            let subscriber = tracing_subscriber::fmt()
                .with_max_level(LevelFilter::TRACE)
                .with_ansi(false)
                .with_writer(|| ThisThread)
                .finish();
            tracing::subscriber::set_global_default(subscriber).unwrap();
        });
        TEXT.take();
        Log(())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(TEXT.with_borrow(Clone::clone)).unwrap()
    }
}

impl io::Write for ThisThread {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        TEXT.with_borrow_mut(|text| text.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
