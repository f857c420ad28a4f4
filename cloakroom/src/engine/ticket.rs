//! What is kept of a request until somebody asks for its session.

use http::header::{COOKIE, HeaderValue};
use http::{Extensions, HeaderMap};
use smallvec::SmallVec;

use super::Engine;
use super::admission::Visit;

/// What a request brings that may name a session, and what a guard on new ones goes by: kept as it came, not parsed.
#[derive(Default)]
pub(crate) struct Ticket {
    /// The cookie header, or the first of several.
    cookie: Option<HeaderValue>,
    /// Boxed, since few requests have any of it and every request carries a ticket.
    rest: Option<Box<Rest>>,
}

struct Rest {
    /// The cookie headers after the first: HTTP/2 clients may send one for each cookie (RFC 9113, section 8.2.3).
    cookies: SmallVec<[HeaderValue; 3]>,
    /// The header that names a session where no cookie does.
    id: Option<HeaderValue>,
    visit: Option<Visit>,
}

impl Ticket {
    /// Whether nothing in it can name a session.
    pub(crate) fn is_blank(&self) -> bool {
        self.cookie.is_none() && self.id().is_none()
    }

    pub(super) fn cookies(&self) -> impl Iterator<Item = &HeaderValue> {
        self.cookie.iter().chain(self.rest.iter().flat_map(|rest| &rest.cookies))
    }

    /// The cookie header, where there is no other.
    pub(super) fn only_cookie(&self) -> Option<&HeaderValue> {
        match &self.rest {
            Some(rest) if !rest.cookies.is_empty() => None,
            _ => self.cookie.as_ref(),
        }
    }

    pub(super) fn id(&self) -> Option<&HeaderValue> {
        self.rest.as_ref()?.id.as_ref()
    }

    /// `None` if there is no guard.
    pub(crate) fn visit(&self) -> Option<&Visit> {
        self.rest.as_ref()?.visit.as_ref()
    }
}

impl Engine {
    #[inline]
    pub(crate) fn ticket(&self, headers: &HeaderMap, extensions: &Extensions) -> Ticket {
        // Where no header is there twice, the first cookie header is the only one: every request pays for this.
        let may_have_rest = headers.len() != headers.keys_len() || self.keeps_more;
        Ticket {
            rest: if may_have_rest { self.rest(headers, extensions) } else { None },
            cookie: headers.get(COOKIE).cloned(),
        }
    }

    /// Apart from [`ticket`](Self::ticket), which is small without it.
    #[cold]
    fn rest(&self, headers: &HeaderMap, extensions: &Extensions) -> Option<Box<Rest>> {
        let cookies: SmallVec<_> = headers.get_all(COOKIE).iter().skip(1).cloned().collect();
        let id = self.id_header.as_ref().and_then(|(name, _)| headers.get(name)).cloned();
        let visit = self.visit(headers, extensions);
        let is_empty = cookies.is_empty() && id.is_none() && visit.is_none();
        (!is_empty).then(|| Box::new(Rest { cookies, id, visit }))
    }
}
