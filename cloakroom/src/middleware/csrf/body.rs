//! A form's body, read as far as its token and then handed on whole.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

pin_project! {
    /// The body of a request behind a [`CsrfLayer`](crate::CsrfLayer): what came, frame by frame, though some of it was read before.
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

/// What was found of a form's field.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Field {
    Found(String),
    Absent,
    /// Not within as much as may be read.
    TooFar,
}

impl<B: Body<Data = Bytes> + Unpin> CsrfBody<B> {
    /// Reads on until the field called `name` of a URL-encoded form was read, at most `limit` bytes.
    pub(super) async fn field(&mut self, name: &str, limit: usize) -> Result<Field, B::Error> {
        let (mut unread, mut total) = (Vec::new(), 0);
        loop {
            let frame = poll_fn(|context| Pin::new(&mut self.rest).poll_frame(context)).await.transpose()?;
            let Some(frame) = frame else {
                return Ok(found(&unread, name).map_or(Field::Absent, Field::Found));
            };
            if let Some(data) = frame.data_ref() {
                total += data.len();
                // No more of it is kept twice than may be looked at.
                unread.extend_from_slice(&data[..data.len().min(limit.saturating_sub(unread.len()))]);
            }
            self.read.push_back(frame);
            let whole = memchr::memrchr(b'&', &unread).unwrap_or(0);
            if let Some(token) = found(&unread[..whole], name) {
                return Ok(Field::Found(token));
            }
            unread.drain(..whole);
            if total > limit {
                return Ok(Field::TooFar);
            }
        }
    }
}

/// The first field called `name` among whole ones.
fn found(pairs: &[u8], name: &str) -> Option<String> {
    form_urlencoded::parse(pairs).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use std::convert::Infallible;

    /// A body of these pieces.
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

    /// What was found, how many pieces were left unread, and whether the body still comes whole.
    async fn read(pieces: &[&'static str], limit: usize) -> (Field, usize) {
        let mut body = body(pieces);
        let field = body.field("t", limit).await.unwrap();
        let unread = body.rest.0.len();
        let whole = body.collect().await.unwrap().to_bytes();
        assert_eq!(whole, pieces.concat(), "handed on as it came");
        (field, unread)
    }

    #[tokio::test]
    async fn a_form_is_read_no_further_than_its_token_and_comes_whole() {
        let found = |token: &str| Field::Found(token.to_owned());
        assert_eq!(read(&["t=abc"], 100).await, (found("abc"), 0));
        assert_eq!(read(&["t=abc&x=", "1", "2"], 100).await, (found("abc"), 2));
        assert_eq!(read(&["x=1&", "t=a", "bc", "&y=2", "3"], 100).await, (found("abc"), 1));
        assert_eq!(read(&["x=t=no&t=a%2Db+c&", "1"], 100).await, (found("a-b c"), 1));
        assert_eq!(read(&["t=one&t=two"], 100).await, (found("one"), 0));
        assert_eq!(read(&["xt=1&", "tt=2"], 100).await, (Field::Absent, 0));
        assert_eq!(read(&[], 100).await, (Field::Absent, 0));
        assert_eq!(read(&["t"], 100).await, (found(""), 0));
    }

    #[tokio::test]
    async fn no_more_is_read_than_is_allowed() {
        assert_eq!(read(&["x=12345", "67890&", "t=abc"], 10).await, (Field::TooFar, 1));
        assert_eq!(read(&["x=1234567890&t=abc&"], 10).await, (Field::TooFar, 0));
        assert_eq!(read(&["t=abcdefgh"], 10).await, (Field::Found("abcdefgh".to_owned()), 0));
    }
}
