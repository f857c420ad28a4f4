//! A warning if a Secure cookie is set where browsers drop it: over plain HTTP, on a host that is not localhost.

use crate::sync::{AtomicUsize, Ordering};

/// The number of visitors over HTTPS after which no further visitor is checked. A site without HTTPS shows that with its first visitors.
const ENOUGH: usize = 100;

/// Counts the visitors without a session that have come over HTTPS, until there are [`ENOUGH`] or a warning was given.
#[derive(Debug, Default)]
pub(crate) struct PlainHttpWatch {
    encrypted: AtomicUsize,
}

impl PlainHttpWatch {
    /// Returns true if further requests are to be checked.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.encrypted.load(Ordering::Relaxed) < ENOUGH
    }

    /// Counts a visitor without a session that has come over HTTPS or from this machine.
    pub(crate) fn count_encrypted(&self) {
        self.encrypted.fetch_add(1, Ordering::Relaxed);
    }

    /// Warns of a Secure cookie over plain HTTP, and ends the watch.
    #[cold]
    pub(crate) fn warn(&self) {
        if self.encrypted.swap(ENOUGH, Ordering::Relaxed) < ENOUGH {
            tracing::warn!(
                "a Secure cookie was set for a request that seems to have come over plain HTTP, to a host that is not localhost: \
                 browsers drop it, so nobody stays signed in; serve HTTPS, or for development call \
                 ManagerBuilder::plain_http_for_development; if a proxy or this server has ended the encryption, have it send \
                 X-Forwarded-Proto: https, and ignore this warning"
            );
        }
    }
}

/// Returns true if a request seems to have left its browser unencrypted, for a host other than localhost. `value` returns the first value
/// of a header, and `authority` is that of the request's target, as HTTP/2 sends it.
pub(crate) fn is_plain<'a>(
    value: impl Fn(&'static str) -> Option<&'a [u8]>,
    authority: Option<&'a str>,
) -> bool {
    let text = |name| std::str::from_utf8(value(name)?).ok();
    let Some(host) = text("host").or(authority) else { return false };
    if is_local(host) {
        return false;
    }
    // Browsers send this header over HTTPS only, except to localhost.
    if value("sec-fetch-site").is_some() {
        return false;
    }
    let from = ["origin", "referer"].into_iter().find_map(&text);
    let proxy_says = ["x-forwarded-proto", "x-forwarded-scheme", "x-scheme", "x-forwarded-protocol"];
    let scheme = proxy_says.into_iter().find_map(&text);
    let forwarded = text("forwarded").unwrap_or_default().to_ascii_lowercase();
    let on = |name| text(name).is_some_and(|value| value.eq_ignore_ascii_case("on"));
    if from.is_some_and(|from| from.starts_with("https://"))
        || scheme.is_some_and(|scheme| {
            scheme.trim().get(..5).is_some_and(|https| https.eq_ignore_ascii_case("https"))
        })
        || forwarded.contains("proto=https")
        || forwarded.contains("proto=\"https")
        || on("x-forwarded-ssl")
        || on("front-end-https")
    {
        return false;
    }
    let plain = scheme.is_some()
        || forwarded.contains("proto=http")
        || from.is_some_and(|from| from.starts_with("http://"));
    // A proxy that does not tell the scheme may have ended the encryption.
    let proxied = ["via", "forwarded", "x-forwarded-for", "x-real-ip", "x-forwarded-host"]
        .iter()
        .any(|name| value(name).is_some());
    plain || !proxied
}

/// Returns true if browsers accept a Secure cookie from this host over plain HTTP: localhost, its subdomains, and loopback addresses.
fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let loopback = name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    loopback || name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use http::header::HOST;
    use http::{HeaderMap, HeaderValue};

    use super::*;

    fn plain(host: &str, headers: &[(&'static str, &'static str)]) -> bool {
        let mut all = HeaderMap::new();
        all.insert(HOST, host.parse().unwrap());
        for (name, value) in headers {
            all.insert(*name, HeaderValue::from_static(value));
        }
        is_plain(|name| all.get(name).map(HeaderValue::as_bytes), None)
    }

    #[test]
    fn plain_http_shows_in_origin_referer_and_proxy_headers() {
        for headers in [
            &[][..],
            &[("origin", "http://shop.example")],
            &[("referer", "http://shop.example/login"), ("x-forwarded-for", "10.0.0.1")],
            &[("x-forwarded-proto", "http"), ("x-forwarded-for", "10.0.0.1")],
            &[("forwarded", "for=10.0.0.1;proto=http")],
        ] {
            assert!(plain("shop.example", headers), "{headers:?}");
            assert!(plain("192.168.1.7:3000", headers), "{headers:?}");
        }
    }

    #[test]
    fn https_and_silent_proxies_are_not_plain_http() {
        for headers in [
            &[("sec-fetch-site", "none")][..],
            &[("origin", "https://shop.example")],
            &[("referer", "https://shop.example/login")],
            &[("x-forwarded-proto", "https")],
            &[("x-forwarded-proto", "https, http")],
            &[("forwarded", "for=10.0.0.1;Proto=https")],
            &[("x-forwarded-ssl", "on")],
            &[("x-forwarded-for", "10.0.0.1")],
            &[("via", "1.1 proxy")],
        ] {
            assert!(!plain("shop.example", headers), "{headers:?}");
        }
        assert!(!is_plain(|_| None, None), "the host is unknown");
        assert!(is_plain(|_| None, Some("shop.example")));
    }

    #[test]
    fn localhost_accepts_secure_cookies() {
        for host in
            ["localhost", "localhost:3000", "LOCALHOST", "app.localhost:3000", "127.0.0.1:3000", "[::1]:80"]
        {
            assert!(!plain(host, &[]), "{host}");
        }
        for host in ["localhost.example", "notlocalhost", "10.0.0.1", "[fe80::1]:80", "0.0.0.0:3000"] {
            assert!(plain(host, &[]), "{host}");
        }
    }
}
