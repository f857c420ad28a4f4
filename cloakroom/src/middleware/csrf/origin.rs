//! The origin of a request, as the browser names it.

use std::fmt;
use std::str::FromStr;

use http::header::{HOST, HeaderName, ORIGIN, UPGRADE};

use crate::error::{Error, ErrorKind, Result};
use crate::head::RequestHead;

/// The header in which browsers say where a request comes from.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The kind of page that a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Provenance {
    /// A page of this site or of a trusted origin, or no page: an address that the visitor typed.
    Own,
    /// A page of another site.
    Foreign,
    /// The headers do not say. The client is an old browser or no browser.
    Unknown,
}

/// Returns the kind of page that `request` comes from.
///
/// Reads `Sec-Fetch-Site` (W3C Fetch Metadata), which no page can set. If it is absent, reads `Origin`: Chromium sends no
/// `Sec-Fetch-Site` over plain HTTP.
pub(super) fn provenance<H: RequestHead + ?Sized>(request: &H, trusted: &[PageOrigin]) -> Provenance {
    let named = request.values(&ORIGIN).next();
    let origin = named.and_then(|origin| PageOrigin::read(std::str::from_utf8(origin).ok()?));
    if origin.as_ref().is_some_and(|origin| trusted.contains(origin)) {
        return Provenance::Own;
    }
    match (request.values(&SEC_FETCH_SITE).next(), named) {
        (Some(b"same-origin" | b"none"), _) => Provenance::Own,
        // `same-site` is foreign, too: another host of the same site may belong to somebody else.
        (Some(_), _) => Provenance::Foreign,
        (None, Some(_)) if origin.is_some_and(|origin| origin.is_of(request)) => Provenance::Own,
        (None, Some(_)) => Provenance::Foreign,
        (None, None) => Provenance::Unknown,
    }
}

/// Returns true for a WebSocket handshake or an extended CONNECT (RFC 8441, RFC 9220). The script that starts one cannot send a token.
///
/// No page can make another request look like a handshake: scripts may set neither `Upgrade` nor CONNECT.
pub(super) fn is_handshake<H: RequestHead + ?Sized>(request: &H) -> bool {
    let websocket = |value: &[u8]| {
        let mut protocols = value.split(|byte| *byte == b',');
        protocols.any(|protocol| protocol.trim_ascii().eq_ignore_ascii_case(b"websocket"))
    };
    match request.method() {
        "GET" => request.values(&UPGRADE).any(websocket),
        "CONNECT" => true,
        _ => false,
    }
}

/// Scheme, host and port of a page's address (RFC 6454), for [`CsrfLayer::trust_origin`](crate::CsrfLayer::trust_origin).
///
/// It is parsed from `http://` or `https://`, a host, and perhaps a port. Upper case equals lower case, and the scheme's default
/// port equals no port.
///
/// ```
/// use cloakroom::middleware::PageOrigin;
///
/// let origin: PageOrigin = "https://App.example.com:443".parse()?;
/// assert_eq!(origin, "https://app.example.com".parse()?);
/// assert_eq!(origin.to_string(), "https://app.example.com");
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageOrigin {
    secure: bool,
    host: Box<str>,
    port: u16,
}

impl PageOrigin {
    /// Reads an origin. Returns `None` unless it is an http or https origin: `null` is none.
    fn read(text: &str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let secure = scheme.eq_ignore_ascii_case("https");
        if !secure && !scheme.eq_ignore_ascii_case("http") {
            return None;
        }
        let (host, port) = host_and_port(authority)?;
        let port = port.unwrap_or(if secure { 443 } else { 80 });
        Some(PageOrigin { secure, host: host.to_ascii_lowercase().into(), port })
    }

    fn default_port(&self) -> u16 {
        if self.secure { 443 } else { 80 }
    }

    /// Returns true if the request is for this origin's host and port.
    ///
    /// The request's scheme is ignored, since a proxy may have removed the encryption. A host without a port has the default port
    /// of the origin's scheme.
    fn is_of<H: RequestHead + ?Sized>(&self, request: &H) -> bool {
        // HTTP/2 has the host in the request target.
        let host = request.values(&HOST).next().or_else(|| request.authority().map(str::as_bytes));
        let host = host.and_then(|host| host_and_port(std::str::from_utf8(host).ok()?));
        host.is_some_and(|(host, port)| {
            host.eq_ignore_ascii_case(&self.host) && port.unwrap_or(self.default_port()) == self.port
        })
    }
}

impl FromStr for PageOrigin {
    type Err = Error;

    /// Parses an origin, such as `https://app.example.com` or `http://localhost:3000`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for another scheme, a path, a wildcard or a malformed port.
    fn from_str(text: &str) -> Result<Self> {
        PageOrigin::read(text).ok_or_else(|| Error::new(ErrorKind::Config, OriginError::Malformed))
    }
}

impl fmt::Display for PageOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.secure { "https" } else { "http" }, self.host)?;
        if self.port == self.default_port() { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

#[derive(Debug, thiserror::Error)]
enum OriginError {
    #[error(
        "expected an origin such as https://app.example.com, found another text; leave out path and wildcard"
    )]
    Malformed,
}

/// Splits `example.com`, `example.com:8443` or `[::1]:8443`. An empty port counts as none (RFC 3986, section 3.2.3).
fn host_and_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let end = authority.rfind(']').map_or(0, |bracket| bracket + 1);
    let (host, port) = match authority.get(end..)?.find(':') {
        Some(colon) => (&authority[..end + colon], &authority[end + colon + 1..]),
        None => (authority, ""),
    };
    let plain = !host.is_empty() && !host.contains(['/', '?', '#', '@', '*', ' ', ',']);
    if !plain || !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let port = if port.is_empty() { None } else { Some(port.parse().ok()?) };
    Some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn provenance_of(uri: &str, headers: &[(&str, &str)]) -> Provenance {
        let mut request = Request::post(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let trusted = [PageOrigin::read("https://app.example").unwrap()];
        provenance(&request.body(()).unwrap().into_parts().0, &trusted)
    }

    #[test]
    fn sec_fetch_site_decides_where_it_is_sent() {
        for (site, expected) in [
            ("same-origin", Provenance::Own),
            ("none", Provenance::Own),
            ("same-site", Provenance::Foreign),
            ("cross-site", Provenance::Foreign),
            ("", Provenance::Foreign),
            ("Same-Origin", Provenance::Foreign),
        ] {
            let headers = [("sec-fetch-site", site), ("host", "a.example"), ("origin", "https://a.example")];
            assert_eq!(provenance_of("/", &headers), expected, "{site}");
        }
    }

    #[test]
    fn without_sec_fetch_site_the_origin_must_be_the_host() {
        let from = |origin| provenance_of("/", &[("origin", origin), ("host", "a.example:3000")]);
        assert_eq!(from("http://a.example:3000"), Provenance::Own);
        assert_eq!(from("https://A.example:3000"), Provenance::Own);
        for foreign in [
            "http://a.example",
            "https://b.example:3000",
            "null",
            "",
            "a.example:3000",
            "chrome-extension://a.example:3000",
            "https://a.example:3000@evil.example",
            "https://a.example:30000",
            "https://a.example:3000/",
        ] {
            assert_eq!(from(foreign), Provenance::Foreign, "{foreign}");
        }
        assert_eq!(
            provenance_of("/", &[("origin", "https://a.example")]),
            Provenance::Foreign,
            "of no known host"
        );
        let http2 = provenance_of("https://a.example/", &[("origin", "https://a.example")]);
        assert_eq!(http2, Provenance::Own);
    }

    #[test]
    fn a_trusted_origin_counts_as_this_site() {
        let headers = [("origin", "https://app.example"), ("sec-fetch-site", "same-site")];
        assert_eq!(provenance_of("/", &headers), Provenance::Own);
        let headers = [("origin", "https://app.example.evil"), ("sec-fetch-site", "cross-site")];
        assert_eq!(provenance_of("/", &headers), Provenance::Foreign);
    }

    #[test]
    fn a_client_without_these_headers_is_unknown() {
        assert_eq!(provenance_of("/", &[("host", "a.example")]), Provenance::Unknown);
    }

    #[test]
    fn a_default_port_equals_no_port() {
        for (host, origin, expected) in [
            ("example.com:443", "https://example.com", Provenance::Own),
            ("example.com", "https://example.com:443", Provenance::Own),
            ("example.com:80", "http://example.com", Provenance::Own),
            ("example.com:", "https://example.com", Provenance::Own),
            ("example.com", "http://example.com", Provenance::Own),
            ("[::1]:443", "https://[::1]", Provenance::Own),
            ("[::1]:3000", "http://[::1]:3000", Provenance::Own),
            ("[::1]", "http://[::2]", Provenance::Foreign),
            ("example.com:443", "http://example.com", Provenance::Foreign),
            ("example.com:80", "https://example.com", Provenance::Foreign),
            ("example.com:8443", "https://example.com", Provenance::Foreign),
            ("example.com", "https://example.com:8443", Provenance::Foreign),
            ("example.com:443", "https://example.com:8443", Provenance::Foreign),
            ("example.com:99999", "https://example.com", Provenance::Foreign),
            ("example.com:+443", "https://example.com", Provenance::Foreign),
        ] {
            assert_eq!(
                provenance_of("/", &[("host", host), ("origin", origin)]),
                expected,
                "{host} from {origin}"
            );
        }
    }

    #[test]
    fn upgrade_and_connect_mark_a_handshake() {
        let request = |method: &str, value: Option<&str>| {
            let mut request = Request::builder().method(method).uri("https://a.example");
            if let Some(value) = value {
                request = request.header(UPGRADE, value);
            }
            request.body(()).unwrap()
        };
        for upgrade in ["websocket", "WebSocket", "foo, websocket"] {
            assert!(is_handshake(&request("GET", Some(upgrade))), "{upgrade}");
        }
        assert!(is_handshake(&request("CONNECT", None)));
        assert!(!is_handshake(&request("GET", Some("h2c"))));
        assert!(!is_handshake(&request("GET", None)));
        assert!(!is_handshake(&request("POST", Some("websocket"))), "a POST is no handshake");
    }
}
