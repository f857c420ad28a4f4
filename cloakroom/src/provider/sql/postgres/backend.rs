//! The process that serves a connection, as the server told at its start.
//!
//! The driver keeps the number to itself and writes it only into the request that cancels a statement. So this module has it write
//! such a request, and sends it to nobody. A pooler tells each client a number of its own, which is how it is recognised.

use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::Client;
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};

use crate::sync::locks::Mutex;

/// Returns the number of the process that serves `client`, as the server or a pooler told it.
pub(super) async fn process_id(client: &Client) -> Option<i32> {
    let written = WrittenBytes::default();
    client.cancel_token().cancel_query_raw(written.clone(), PretendedTls).await.ok()?;
    let bytes = written.0.lock();
    // A cancel request ends with its code, the process and the secret, four bytes each. A request for TLS may come first.
    let request = bytes.len().checked_sub(8).and_then(|start| bytes.get(start..start + 4))?;
    request.first_chunk().map(|process| i32::from_be_bytes(*process))
}

/// A stream that keeps what is written. To a request for TLS it answers yes, and then encrypts nothing.
#[derive(Clone, Default)]
struct WrittenBytes(Arc<Mutex<Vec<u8>>>);

impl AsyncWrite for WrittenBytes {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.lock().extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for WrittenBytes {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        into.put_slice(&b"S"[..into.remaining().min(1)]);
        Poll::Ready(Ok(()))
    }
}

impl TlsStream for WrittenBytes {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

struct PretendedTls;

impl TlsConnect<WrittenBytes> for PretendedTls {
    type Stream = WrittenBytes;
    type Error = io::Error;
    type Future = Ready<io::Result<WrittenBytes>>;

    fn connect(self, stream: WrittenBytes) -> Self::Future {
        ready(Ok(stream))
    }
}
