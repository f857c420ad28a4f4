//! Writing `Set-Cookie`, and the caching headers that go with it.

use std::time::Duration;

use http::HeaderMap;
use http::header::{CACHE_CONTROL, HeaderName, HeaderValue, SET_COOKIE, VARY};

use super::{CookieConfig, SameSite};

/// The writer of a cookie. It formats the parts that every response shares only once.
#[derive(Debug)]
pub(crate) struct CookieWriter {
    /// The bytes `name=`.
    name: Box<[u8]>,
    /// The bytes `; Path=/; Domain=…`.
    scope: Box<[u8]>,
    /// The bytes `; HttpOnly; SameSite=Lax`.
    flags: Box<[u8]>,
    /// The same bytes and `; Secure`.
    secure_flags: Box<[u8]>,
    lifetime: Option<Duration>,
}

impl CookieWriter {
    /// The longest lifetime that browsers keep: RFC 6265bis, section 5.5.
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
            secure_flags: [http_only, same_site, "; Secure"].concat().into_bytes().into(),
            lifetime: cookie.lifetime,
        }
    }

    /// Returns the configured lifetime; `None` for a cookie until the browser is closed.
    pub(crate) fn lifetime(&self) -> Option<Duration> {
        self.lifetime
    }

    /// Sets the cookie to `token`, for `lifetime` or until the browser is closed.
    pub(crate) fn set(
        &self,
        headers: &mut HeaderMap,
        token: &[u8],
        secure: bool,
        lifetime: Option<Duration>,
    ) {
        // `Max-Age` has whole seconds. It is at least 1 for a session that has not ended, since 0 deletes the cookie.
        let whole =
            |time: Duration| time.min(CookieWriter::LONGEST).as_secs().max(u64::from(!time.is_zero()));
        let seconds = lifetime.map(whole);
        let age = seconds.map(|seconds| format!("; Max-Age={seconds}")).unwrap_or_default();
        self.write(headers, token, age.as_bytes(), secure);
    }

    /// Deletes the cookie in the browser.
    pub(crate) fn remove(&self, headers: &mut HeaderMap, secure: bool) {
        self.write(headers, b"", b"; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT", secure);
    }

    /// Writes the cookie with `token` and the attributes `age`.
    fn write(&self, headers: &mut HeaderMap, token: &[u8], age: &[u8], secure: bool) {
        let flags = if secure { &self.secure_flags } else { &self.flags };
        // One allocation of the exact size becomes the header value without a copy.
        let value = [&self.name, token, &self.scope, age, flags].concat();
        // This never fails: name, path and domain were checked at build, and a token is base64url.
        let Ok(mut value) = HeaderValue::try_from(value) else { return };
        value.set_sensitive(true);
        if headers.append(SET_COOKIE, value) {
            self.drop_former(headers);
        }
    }

    /// Removes earlier cookies of the same name: RFC 6265bis, section 4.1.1, allows one per response.
    #[cold]
    fn drop_former(&self, headers: &mut HeaderMap) {
        let (mut values, ours) = former_and_last(headers, SET_COOKIE);
        values.retain(|value| !value.as_bytes().starts_with(&self.name));
        values.extend(ours);
        put_all(headers, SET_COOKIE, values);
    }
}

/// Adds `name` to `Vary`: the response depends on that request header.
#[inline]
pub(crate) fn vary(headers: &mut HeaderMap, name: HeaderValue) {
    // Added unseen, since mostly there is none; where there is, it may have to go again.
    if headers.append(VARY, name) {
        let (former, name) = former_and_last(headers, VARY);
        if name.is_some_and(|name| lists(&former, name.as_bytes())) || lists(&former, b"*") {
            put_all(headers, VARY, former);
        }
    }
}

/// Keeps a response with somebody's cookie in it out of every cache, whatever else was said of caching.
pub(crate) fn no_store(headers: &mut HeaderMap) {
    const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
    if headers.append(CACHE_CONTROL, NO_STORE) {
        let (mut former, _) = former_and_last(headers, CACHE_CONTROL);
        if !lists(&former, b"no-store") {
            let mut directives: Vec<_> = former.iter().map(HeaderValue::as_bytes).collect();
            directives.push(b"no-store");
            former = vec![HeaderValue::try_from(directives.join(&b", "[..])).unwrap_or(NO_STORE)];
        }
        put_all(headers, CACHE_CONTROL, former);
    }
}

/// Returns the values of a header without the last one, and the last one.
#[cold]
fn former_and_last(headers: &HeaderMap, name: HeaderName) -> (Vec<HeaderValue>, Option<HeaderValue>) {
    let mut values: Vec<_> = headers.get_all(name).iter().cloned().collect();
    let last = values.pop();
    (values, last)
}

fn put_all(headers: &mut HeaderMap, name: HeaderName, values: Vec<HeaderValue>) {
    headers.remove(&name);
    for value in values {
        headers.append(name.clone(), value);
    }
}

/// Returns true if the comma-separated lines of a header contain `member`.
fn lists(lines: &[HeaderValue], member: &[u8]) -> bool {
    let mut members = lines.iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    members.any(|found| found.trim_ascii().eq_ignore_ascii_case(member))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(cookie: &CookieConfig, lifetime: Option<Duration>) -> String {
        let mut headers = HeaderMap::new();
        CookieWriter::new(cookie).set(&mut headers, b"token", cookie.secure, lifetime);
        headers[SET_COOKIE].to_str().unwrap().to_owned()
    }

    #[test]
    fn the_default_cookie_has_every_protection() {
        let cookie = CookieConfig::default();
        assert_eq!(set(&cookie, None), "__Host-id=token; Path=/; HttpOnly; SameSite=Lax; Secure");
    }

    #[test]
    fn a_lifetime_is_cut_to_the_limit_of_browsers() {
        let set = |lifetime| set(&CookieConfig::default(), Some(lifetime));
        assert!(set(Duration::from_secs(3600)).contains("; Max-Age=3600;"));
        assert!(set(Duration::from_millis(1999)).contains("; Max-Age=1;"));
        assert!(set(Duration::from_millis(1)).contains("; Max-Age=1;"), "it has not ended yet");
        assert!(set(Duration::ZERO).contains("; Max-Age=0;"), "it has ended");
        assert!(set(Duration::MAX).contains("; Max-Age=34560000;"));
    }

    #[test]
    fn a_removal_repeats_name_path_domain_and_secure() {
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
    fn a_response_has_one_cookie_of_our_name_and_all_others() {
        let writer = CookieWriter::new(&CookieConfig { name: "id".into(), ..CookieConfig::default() });
        let mut headers = HeaderMap::new();
        for value in ["id=old", "idea=1", "other=id"] {
            headers.append(SET_COOKIE, HeaderValue::from_static(value));
        }
        writer.set(&mut headers, b"a", true, None);
        writer.set(&mut headers, b"b", true, None);
        let values: Vec<_> =
            headers.get_all(SET_COOKIE).iter().map(|value| value.to_str().unwrap()).collect();
        assert_eq!(values, ["idea=1", "other=id", "id=b; Path=/; HttpOnly; SameSite=Lax; Secure"]);
    }

    #[test]
    fn caching_headers_are_merged_with_existing_ones() {
        let mut headers = HeaderMap::new();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, max-age=60"));
        headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
        for _ in 0..2 {
            no_store(&mut headers);
            vary(&mut headers, HeaderValue::from_static("Cookie"));
        }
        assert_eq!(headers[CACHE_CONTROL], "private, max-age=60, no-store");
        let vary: Vec<_> = headers.get_all(VARY).iter().collect();
        assert_eq!(vary, ["Accept-Encoding", "Cookie"]);
    }
}
