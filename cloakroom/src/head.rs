//! `RequestHead`: the head of a request, in the types of any framework.

use http::header::{HeaderName, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Request};

/// The head of a request, in the types of any framework.
///
/// It is implemented for the types of `http` 1: `http::Request` and `http::request::Parts`. An adapter for a framework with types of its
/// own implements it, so that no header has to be copied before it is needed.
///
/// ```
/// use cloakroom::middleware::RequestHead;
/// use http::HeaderName;
///
/// /// A framework's request: it has the headers as text.
/// struct TextRequest {
///     method: String,
///     target: String,
///     headers: Vec<(String, String)>,
/// }
///
/// impl RequestHead for TextRequest {
///     fn method(&self) -> &str {
///         &self.method
///     }
///
///     fn path_and_query(&self) -> &str {
///         &self.target
///     }
///
///     fn authority(&self) -> Option<&str> {
///         None // HTTP/1 only
///     }
///
///     fn values<'a>(&'a self, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
///         self.headers().filter(|(found, _)| found.eq_ignore_ascii_case(name.as_str())).map(|(_, value)| value)
///     }
///
///     fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
///         self.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()))
///     }
/// }
/// ```
pub trait RequestHead {
    /// Returns the method, such as `GET`.
    fn method(&self) -> &str;

    /// Returns path and query of the request's target, such as `/search?q=rust`.
    fn path_and_query(&self) -> &str;

    /// Returns the authority of the request's target, which HTTP/2 sends in the place of the header `Host`.
    fn authority(&self) -> Option<&str>;

    /// Returns the values of one header, in the order of the request. Names are compared without regard to case. A value that is left out
    /// here, such as that of `Origin`, can let a forged request pass.
    fn values<'a>(&'a self, name: &HeaderName) -> impl Iterator<Item = &'a [u8]>;

    /// Returns name and value of every header. It is called only if the application has set
    /// [`admit`](crate::ManagerBuilder::admit), or [moves](crate::migration) sessions that have a cookie of their own.
    fn headers(&self) -> impl Iterator<Item = (&str, &[u8])>;
}

impl RequestHead for Parts {
    fn method(&self) -> &str {
        self.method.as_str()
    }

    fn path_and_query(&self) -> &str {
        self.uri.path_and_query().map_or("/", |target| target.as_str())
    }

    fn authority(&self) -> Option<&str> {
        self.uri.authority().map(|authority| authority.as_str())
    }

    fn values<'a>(&'a self, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
        self.headers.get_all(name).iter().map(HeaderValue::as_bytes)
    }

    fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()))
    }
}

impl<B> RequestHead for Request<B> {
    fn method(&self) -> &str {
        self.method().as_str()
    }

    fn path_and_query(&self) -> &str {
        self.uri().path_and_query().map_or("/", |target| target.as_str())
    }

    fn authority(&self) -> Option<&str> {
        self.uri().authority().map(|authority| authority.as_str())
    }

    fn values<'a>(&'a self, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
        self.headers().get_all(name).iter().map(HeaderValue::as_bytes)
    }

    fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes()))
    }
}

/// Copies the headers of `head`. A header that `http` does not accept is left out.
pub(crate) fn header_map<H: RequestHead + ?Sized>(head: &H) -> HeaderMap {
    let mut copied = HeaderMap::new();
    for (name, value) in head.headers() {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
            // A map has room for some 24,000 headers, which is more than any server accepts.
            if copied.try_append(name, value).is_err() {
                break;
            }
        }
    }
    copied
}
