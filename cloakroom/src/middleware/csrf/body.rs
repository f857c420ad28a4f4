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

/// The result of a search for a form's field.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FormField {
    Found(String),
    Absent,
    /// The field does not end within the limit.
    TooFar,
}

impl<B: Body<Data = Bytes> + Unpin> CsrfBody<B> {
    /// Reads a URL-encoded form until it has the whole field `name`, or more than `limit` bytes.
    pub(super) async fn field(&mut self, name: &str, limit: usize) -> Result<FormField, B::Error> {
        let (mut unread, mut total) = (Vec::new(), 0);
        loop {
            let frame = poll_fn(|context| Pin::new(&mut self.rest).poll_frame(context)).await.transpose()?;
            let Some(frame) = frame else {
                return Ok(first_field(&unread, name).map_or(FormField::Absent, FormField::Found));
            };
            if let Some(data) = frame.data_ref() {
                total += data.len();
                // Copy at most `limit` bytes, however large a frame is.
                unread.extend_from_slice(&data[..data.len().min(limit.saturating_sub(unread.len()))]);
            }
            self.read.push_back(frame);
            let whole = memchr::memrchr(b'&', &unread).unwrap_or(0);
            if let Some(value) = first_field(&unread[..whole], name) {
                return Ok(FormField::Found(value));
            }
            unread.drain(..whole);
            if total > limit {
                return Ok(FormField::TooFar);
            }
        }
    }
}

/// Returns the value of the first field `name` in `pairs`, which ends with a whole field.
fn first_field(pairs: &[u8], name: &str) -> Option<String> {
    form_urlencoded::parse(pairs).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
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

    fn body(pieces: &[&'static str]) -> CsrfBody<Pieces> {
        CsrfBody::new(Pieces(pieces.iter().copied().collect()))
    }

    /// Searches for the field `t`. Returns the result and the number of unread pieces. Checks that the body still yields all.
    async fn read(pieces: &[&'static str], limit: usize) -> (FormField, usize) {
        let mut body = body(pieces);
        let field = body.field("t", limit).await.unwrap();
        let unread = body.rest.0.len();
        let whole = body.collect().await.unwrap().to_bytes();
        assert_eq!(whole, pieces.concat(), "the body yields every byte");
        (field, unread)
    }

    #[tokio::test]
    async fn a_form_is_read_up_to_its_token_and_stays_whole() {
        let found = |token: &str| FormField::Found(token.to_owned());
        assert_eq!(read(&["t=abc"], 100).await, (found("abc"), 0));
        assert_eq!(read(&["t=abc&x=", "1", "2"], 100).await, (found("abc"), 2));
        assert_eq!(read(&["x=1&", "t=a", "bc", "&y=2", "3"], 100).await, (found("abc"), 1));
        assert_eq!(read(&["x=t=no&t=a%2Db+c&", "1"], 100).await, (found("a-b c"), 1));
        assert_eq!(read(&["t=one&t=two"], 100).await, (found("one"), 0));
        assert_eq!(read(&["xt=1&", "tt=2"], 100).await, (FormField::Absent, 0));
        assert_eq!(read(&[], 100).await, (FormField::Absent, 0));
        assert_eq!(read(&["t"], 100).await, (found(""), 0));
    }

    #[tokio::test]
    async fn a_form_is_read_up_to_the_limit() {
        assert_eq!(read(&["x=12345", "67890&", "t=abc"], 10).await, (FormField::TooFar, 1));
        assert_eq!(read(&["x=1234567890&t=abc&"], 10).await, (FormField::TooFar, 0));
        assert_eq!(read(&["t=abcdefgh"], 10).await, (FormField::Found("abcdefgh".to_owned()), 0));
    }
}
