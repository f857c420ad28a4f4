//! `Set-Cookie`, and what must stand beside it in a response.

use std::time::Duration;

use http::HeaderMap;
use http::header::{CACHE_CONTROL, Entry, HeaderValue, SET_COOKIE, VARY};

use super::{CookieConfig, SameSite};

/// Writes the cookie. All that does not change from one response to the next is put together once.
#[derive(Debug)]
pub(crate) struct CookieWriter {
    /// `name=`
    name: Box<[u8]>,
    /// `; Path=/; Domain=…`
    scope: Box<[u8]>,
    /// `; HttpOnly; SameSite=Lax`
    flags: Box<[u8]>,
    lifetime: Option<Duration>,
}

impl CookieWriter {
    /// RFC 6265bis, section 5.5: browsers cut a longer lifetime to this.
    pub(crate) const LONGEST: Duration = Duration::from_secs(400 * 24 * 60 * 60);

    pub(crate) fn new(cookie: &CookieConfig) -> Self {
        let mut scope = format!("; Path={}", cookie.path);
        if let Some(domain) = &cookie.domain {
            scope.push_str("; Domain=");
            scope.push_str(domain);
        }
        let http_only = if cookie.http_only { "; HttpOnly" } else { "" };
        let same_site = match cookie.same_site {
            SameSite::Lax => "; SameSite=Lax",
            SameSite::Strict => "; SameSite=Strict",
            SameSite::None => "; SameSite=None",
            SameSite::Unspecified => "",
        };
        CookieWriter {
            name: [cookie.name.as_bytes(), b"="].concat().into(),
            scope: scope.into_bytes().into(),
            flags: [http_only, same_site].concat().into_bytes().into(),
            lifetime: cookie.lifetime,
        }
    }

    /// The lifetime, where the cookie has one that moves with use.
    pub(crate) fn lifetime(&self) -> Option<Duration> {
        self.lifetime
    }

    /// Sets the cookie to `token`, for no longer than `remaining`.
    pub(crate) fn set(
        &self,
        headers: &mut HeaderMap,
        token: &str,
        secure: bool,
        remaining: Option<Duration>,
    ) {
        let lifetime = self.lifetime.map(|lifetime| {
            let lifetime = lifetime.min(CookieWriter::LONGEST);
            remaining.map_or(lifetime, |remaining| lifetime.min(remaining)).as_secs()
        });
        let mut value = self.start(token);
        if let Some(seconds) = lifetime {
            value.extend_from_slice(format!("; Max-Age={seconds}").as_bytes());
        }
        self.finish(headers, value, secure);
    }

    /// Has the browser forget the cookie.
    pub(crate) fn remove(&self, headers: &mut HeaderMap, secure: bool) {
        let mut value = self.start("");
        value.extend_from_slice(b"; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT");
        self.finish(headers, value, secure);
    }

    fn start(&self, token: &str) -> Vec<u8> {
        let mut value = Vec::with_capacity(128);
        value.extend_from_slice(&self.name);
        value.extend_from_slice(token.as_bytes());
        value.extend_from_slice(&self.scope);
        value
    }

    fn finish(&self, headers: &mut HeaderMap, mut value: Vec<u8>, secure: bool) {
        value.extend_from_slice(&self.flags);
        if secure {
            value.extend_from_slice(b"; Secure");
        }
        // Name, path and domain were checked at build and a token is base64url: the bytes are a header value.
        let Ok(mut value) = HeaderValue::try_from(value) else { return };
        value.set_sensitive(true);
        self.drop_former(headers);
        headers.append(SET_COOKIE, value);
    }

    /// RFC 6265bis, section 4.1.1: no two cookies of one name in a response.
    fn drop_former(&self, headers: &mut HeaderMap) {
        let ours = |value: &HeaderValue| value.as_bytes().starts_with(&self.name);
        if !headers.get_all(SET_COOKIE).iter().any(ours) {
            return;
        }
        let others: Vec<_> =
            headers.get_all(SET_COOKIE).iter().filter(|value| !ours(value)).cloned().collect();
        headers.remove(SET_COOKIE);
        others.into_iter().for_each(|value| {
            headers.append(SET_COOKIE, value);
        });
    }
}

/// Says that the response depends on the request header `name`.
pub(crate) fn vary(headers: &mut HeaderMap, name: &HeaderValue) {
    match headers.entry(VARY) {
        Entry::Vacant(none) => {
            none.insert(name.clone());
        }
        Entry::Occupied(mut some) => {
            if !lists(some.iter(), name.as_bytes()) && !lists(some.iter(), b"*") {
                some.append(name.clone());
            }
        }
    }
}

/// Keeps a response with somebody's cookie in it out of every cache, whatever else was said of caching.
pub(crate) fn no_store(headers: &mut HeaderMap) {
    const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
    match headers.entry(CACHE_CONTROL) {
        Entry::Vacant(none) => {
            none.insert(NO_STORE);
        }
        Entry::Occupied(some) if lists(some.iter(), b"no-store") => {}
        Entry::Occupied(mut some) => {
            let mut directives = some.iter().map(HeaderValue::as_bytes).collect::<Vec<_>>().join(&b", "[..]);
            directives.extend_from_slice(b", no-store");
            some.insert(HeaderValue::try_from(directives).unwrap_or(NO_STORE));
        }
    }
}

/// Whether `member` is among the comma-separated members of a header's lines.
fn lists<'a>(lines: impl Iterator<Item = &'a HeaderValue>, member: &[u8]) -> bool {
    let mut members = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    members.any(|found| found.trim_ascii().eq_ignore_ascii_case(member))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(cookie: &CookieConfig, remaining: Option<Duration>) -> String {
        let mut headers = HeaderMap::new();
        CookieWriter::new(cookie).set(&mut headers, "token", cookie.secure, remaining);
        headers[SET_COOKIE].to_str().unwrap().to_owned()
    }

    #[test]
    fn the_defaults_give_the_strict_cookie() {
        let cookie = CookieConfig::default();
        assert_eq!(set(&cookie, None), "__Host-id=token; Path=/; HttpOnly; SameSite=Lax; Secure");
    }

    #[test]
    fn a_lifetime_never_outlives_the_session_nor_400_days() {
        let secs = Duration::from_secs;
        let lasting = |lifetime| CookieConfig { lifetime: Some(lifetime), ..CookieConfig::default() };
        assert!(set(&lasting(secs(3600)), None).contains("; Max-Age=3600;"));
        assert!(set(&lasting(secs(3600)), Some(secs(60))).contains("; Max-Age=60;"));
        assert!(set(&lasting(Duration::MAX), None).contains("; Max-Age=34560000;"));
    }

    #[test]
    fn the_removal_repeats_name_path_domain_and_secure() {
        let cookie = CookieConfig {
            name: "id".into(),
            path: "/shop".into(),
            domain: Some("example.com".into()),
            ..CookieConfig::default()
        };
        let mut headers = HeaderMap::new();
        CookieWriter::new(&cookie).remove(&mut headers, true);
        assert_eq!(
            headers[SET_COOKIE],
            "id=; Path=/shop; Domain=example.com; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; HttpOnly; SameSite=Lax; Secure"
        );
    }

    #[test]
    fn one_cookie_of_our_name_and_all_the_others() {
        let writer = CookieWriter::new(&CookieConfig { name: "id".into(), ..CookieConfig::default() });
        let mut headers = HeaderMap::new();
        for value in ["id=old", "idea=1", "other=id"] {
            headers.append(SET_COOKIE, HeaderValue::from_static(value));
        }
        writer.set(&mut headers, "a", true, None);
        writer.set(&mut headers, "b", true, None);
        let values: Vec<_> =
            headers.get_all(SET_COOKIE).iter().map(|value| value.to_str().unwrap()).collect();
        assert_eq!(values, ["idea=1", "other=id", "id=b; Path=/; HttpOnly; SameSite=Lax; Secure"]);
    }

    #[test]
    fn caching_headers_are_merged_with_what_is_there() {
        let mut headers = HeaderMap::new();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, max-age=60"));
        headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
        for _ in 0..2 {
            no_store(&mut headers);
            vary(&mut headers, &HeaderValue::from_static("Cookie"));
        }
        assert_eq!(headers[CACHE_CONTROL], "private, max-age=60, no-store");
        let vary: Vec<_> = headers.get_all(VARY).iter().collect();
        assert_eq!(vary, ["Accept-Encoding", "Cookie"]);
    }
}
