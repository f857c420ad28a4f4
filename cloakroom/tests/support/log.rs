//! What a thread logs, down to TRACE.

use std::cell::RefCell;
use std::io;
use std::sync::Once;

use tracing_subscriber::filter::LevelFilter;

/// What this thread logs from now on. One subscriber serves all threads: with one for each, a line that a thread without any
/// reaches first is taken for one that nobody wants.
pub(crate) struct Log(());

thread_local! {
    static TEXT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Writes to the text of the thread that logs.
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
