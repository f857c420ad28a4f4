//! Short texts for the bodies of refusals. A browser shows a 409 with an empty body as an error page of its own.

use std::any::Any;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::Full;

/// Returns a response of `status` with `text`. The body is `B`'s default if this crate cannot make a `B` from a text.
pub(super) fn plain<B: Default + 'static>(status: StatusCode, text: &'static str) -> Response<B> {
    let mut response = Response::new(B::default());
    *response.status_mut() = status;
    if !text.is_empty() && fill(response.body_mut(), text) {
        let kind = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, kind);
    }
    response
}

/// Puts `text` into `body`. Returns false if the type of `body` is unknown.
fn fill(body: &mut dyn Any, text: &'static str) -> bool {
    #[cfg(feature = "axum")]
    if put::<axum_core::body::Body>(body, || text.into()) {
        return true;
    }
    put::<Full<Bytes>>(body, || text.into())
        || put::<Bytes>(body, || text.into())
        || put::<String>(body, || text.to_owned())
        || put::<&'static str>(body, || text)
        || put::<Vec<u8>>(body, || text.as_bytes().to_vec())
}

fn put<T: 'static>(body: &mut dyn Any, text: impl FnOnce() -> T) -> bool {
    body.downcast_mut::<T>().map(|body| *body = text()).is_some()
}
