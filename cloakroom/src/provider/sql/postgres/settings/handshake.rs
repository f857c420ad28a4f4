//! The TLS connector, with a record of its handshake's progress. The driver's errors do not tell it.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio_postgres::Socket;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres_rustls::MakeRustlsConnect;

/// The progress of a handshake: 0 before it, 1 from its beginning, 2 if it failed.
#[derive(Clone, Default)]
pub(super) struct HandshakeProgress(Arc<AtomicU8>);

impl HandshakeProgress {
    pub(super) fn has_begun(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    pub(super) fn has_failed(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 2
    }
}

/// Returns a connector that does as `tls` does, and its record.
pub(super) fn observed(tls: MakeRustlsConnect) -> (ObservedTls<MakeRustlsConnect>, HandshakeProgress) {
    let progress = HandshakeProgress::default();
    (ObservedTls { inner: tls, progress: progress.clone() }, progress)
}

/// A connector that records its progress.
pub(super) struct ObservedTls<T> {
    inner: T,
    progress: HandshakeProgress,
}

type RustlsConnect = <MakeRustlsConnect as MakeTlsConnect<Socket>>::TlsConnect;
type RustlsStream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;

impl MakeTlsConnect<Socket> for ObservedTls<MakeRustlsConnect> {
    type Stream = RustlsStream;
    type TlsConnect = ObservedTls<RustlsConnect>;
    type Error = Infallible;

    fn make_tls_connect(&mut self, host: &str) -> Result<Self::TlsConnect, Infallible> {
        let inner = MakeTlsConnect::<Socket>::make_tls_connect(&mut self.inner, host)?;
        Ok(ObservedTls { inner, progress: self.progress.clone() })
    }
}

impl TlsConnect<Socket> for ObservedTls<RustlsConnect> {
    type Stream = RustlsStream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<RustlsStream>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        let ObservedTls { inner, progress } = self;
        progress.0.store(1, Ordering::Relaxed);
        let connecting = inner.connect(socket);
        Box::pin(async move {
            let connected = connecting.await;
            if connected.is_err() {
                progress.0.store(2, Ordering::Relaxed);
            }
            connected
        })
    }
}
