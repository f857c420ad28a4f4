//! A request's body that is read up to its token. The handler still gets all of it.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

pin_project! {
    /// The body of a request behind a [`CsrfLayer`](crate::CsrfLayer). It yields every frame, also those that the layer has read.
    pub struct CsrfBody<B> {
        read: VecDeque<Frame<Bytes>>,
        #[pin]
        rest: B,
    }
}

impl<B> CsrfBody<B> {
    pub(super) fn new(rest: B) -> Self {
        CsrfBody { read: VecDeque::new(), rest }
    }
}

impl<B> fmt::Debug for CsrfBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CsrfBody").field("read", &self.read.len()).finish_non_exhaustive()
    }
}

impl<B: Body<Data = Bytes>> Body for CsrfBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        match this.read.pop_front() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => this.rest.poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.read.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let read: u64 = self.read.iter().filter_map(Frame::data_ref).map(|data| data.len() as u64).sum();
        let rest = self.rest.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(read));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(read));
        }
        hint
    }
}

impl<B: Body<Data = Bytes> + Unpin> CsrfBody<B> {
    /// Reads the body until `enough` returns true for its next bytes, or the body ends. Returns false if it breaks: what was read is not
    /// the form that the visitor sent.
    pub(super) async fn read_until(&mut self, mut enough: impl FnMut(&[u8]) -> bool) -> bool {
        loop {
            let frame = poll_fn(|context| Pin::new(&mut self.rest).poll_frame(context)).await;
            let Some(frame) = frame else { return true };
            // The error is the client's, so it adds nothing to the log.
            let Ok(frame) = frame else { return false };
            if frame.data_ref().is_some_and(Bytes::is_empty) {
                continue;
            }
            let has_enough = frame.data_ref().is_some_and(|data| enough(data));
            self.read.push_back(frame);
            if has_enough {
                return true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::form::FieldSearch;
    use super::*;
    use http_body_util::BodyExt;
    use std::convert::Infallible;

    /// A body that yields a frame for each text.
    struct Pieces(VecDeque<&'static str>);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(Bytes::from_static(piece.as_bytes())))))
        }
    }

    /// A body whose second frame is an error.
    struct Broken(u8);

    impl Body for Broken {
        type Data = Bytes;
        type Error = &'static str;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
            self.0 += 1;
            Poll::Ready(match self.0 {
                1 => Some(Ok(Frame::data(Bytes::from_static(b"csrf_token=abc")))),
                2 => Some(Err("broken")),
                _ => None,
            })
        }
    }

    #[tokio::test]
    async fn a_body_that_breaks_is_not_a_body_that_ends() {
        let mut body = CsrfBody::new(Broken(0));
        let mut search = FieldSearch::new("csrf_token".into(), 100);
        assert!(!body.read_until(|data| search.read(data).is_some()).await);
    }

    #[tokio::test]
    async fn a_body_that_was_read_for_its_token_stays_whole() {
        for (pieces, unread) in [
            (&["csrf_token=abc"][..], 0),
            (&["csrf_token=abc&x=", "1", "2"], 2),
            (&["x=1&", "csrf_token=a", "bc", "&y=2", "3"], 1),
            (&["x=1&", "y=2"], 0),
            (&[], 0),
        ] {
            let mut body = CsrfBody::new(Pieces(pieces.iter().copied().collect()));
            let mut search = FieldSearch::new("csrf_token".into(), 100);
            body.read_until(|data| search.read(data).is_some()).await;
            assert_eq!(body.rest.0.len(), unread, "{pieces:?}");
            let whole = body.collect().await.unwrap().to_bytes();
            assert_eq!(whole, pieces.concat(), "the body yields every byte");
        }
    }
}
