//! The headers of a request that may name a session, kept unparsed until the session is asked for.

use http::header::{COOKIE, HeaderName, HeaderValue};
use http::{Extensions, HeaderMap};
use smallvec::SmallVec;

use crate::head::{RequestHead, header_map};
use crate::visit::Visit;

/// The headers of a request that may name its session, and its head if callbacks need that. All are copied unparsed.
#[derive(Default)]
pub(crate) struct Presented {
    /// The first cookie header.
    cookie: Option<HeaderValue>,
    /// Boxed, because every request carries `Presented` and few requests have any of these parts.
    rest: Option<Box<Rest>>,
}

/// The parts of a request that few requests have.
struct Rest {
    /// The cookie headers after the first. HTTP/2 clients may send one header per cookie (RFC 9113, section 8.2.3).
    cookies: SmallVec<[HeaderValue; 3]>,
    /// The header that names a session if no cookie does.
    id: Option<HeaderValue>,
    visit: Option<Visit>,
}

impl Presented {
    /// Returns true if no header can name a session.
    pub(crate) fn is_blank(&self) -> bool {
        self.cookie.is_none() && self.id().is_none()
    }

    /// Returns all cookie headers.
    pub(crate) fn cookies(&self) -> impl Iterator<Item = &HeaderValue> {
        self.cookie.iter().chain(self.rest.iter().flat_map(|rest| &rest.cookies))
    }

    /// Returns the cookie header if the request has exactly one.
    pub(crate) fn only_cookie(&self) -> Option<&HeaderValue> {
        match &self.rest {
            Some(rest) if !rest.cookies.is_empty() => None,
            _ => self.cookie.as_ref(),
        }
    }

    /// Returns the value of the id header.
    pub(crate) fn id(&self) -> Option<&HeaderValue> {
        self.rest.as_ref()?.id.as_ref()
    }

    /// Returns the head of the request; `None` if nothing in the manager looks at it.
    pub(crate) fn visit(&self) -> Option<&Visit> {
        self.rest.as_ref()?.visit.as_ref()
    }
}

/// Copies out of a request what it presents.
#[derive(Debug)]
pub(crate) struct RequestReader {
    id_header: Option<HeaderName>,
    /// True if a copy of the request's head is needed: for an `admit` callback, or for another library's cookie.
    keeps_visits: bool,
    /// True if more than the cookie headers is copied.
    keeps_more: bool,
}

impl RequestReader {
    pub(crate) fn new(id_header: Option<HeaderName>, keeps_visits: bool) -> Self {
        RequestReader { keeps_more: id_header.is_some() || keeps_visits, id_header, keeps_visits }
    }

    /// Returns what a request presents. Every request pays for this call.
    #[inline]
    pub(crate) fn read(&self, headers: &HeaderMap, extensions: &Extensions) -> Presented {
        // If no header is repeated, the first cookie header is the only one.
        let may_have_rest = headers.len() != headers.keys_len() || self.keeps_more;
        Presented {
            rest: if may_have_rest { self.read_rest(headers, extensions) } else { None },
            cookie: headers.get(COOKIE).cloned(),
        }
    }

    /// Does what [`read`](Self::read) does, for a request in the types of another framework.
    pub(crate) fn read_head<H: RequestHead + ?Sized>(&self, head: &H, extensions: &Extensions) -> Presented {
        // Another framework's values were checked like these, so no line is dropped.
        let copied = |value: &[u8]| HeaderValue::from_bytes(value).ok();
        let mut cookies = head.values(&COOKIE).filter_map(copied);
        let cookie = cookies.next();
        let cookies: SmallVec<_> = cookies.collect();
        let id = self.id_header.as_ref().and_then(|name| head.values(name).next()).and_then(copied);
        let visit = self.keeps_visits.then(|| Visit::new(header_map(head), extensions.clone()));
        let has_rest = !cookies.is_empty() || id.is_some() || visit.is_some();
        Presented { cookie, rest: has_rest.then(|| Box::new(Rest { cookies, id, visit })) }
    }

    #[cold]
    fn read_rest(&self, headers: &HeaderMap, extensions: &Extensions) -> Option<Box<Rest>> {
        let cookies: SmallVec<_> = headers.get_all(COOKIE).iter().skip(1).cloned().collect();
        let id = self.id_header.as_ref().and_then(|name| headers.get(name)).cloned();
        let visit = self.keeps_visits.then(|| Visit::new(headers.clone(), extensions.clone()));
        let is_empty = cookies.is_empty() && id.is_none() && visit.is_none();
        (!is_empty).then(|| Box::new(Rest { cookies, id, visit }))
    }
}
