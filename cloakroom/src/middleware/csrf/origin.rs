//! What the browser says of where a request comes from.

use http::header::{HOST, HeaderValue, ORIGIN, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, Method};

/// Where a request comes from, as far as that can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Provenance {
    /// A page of this site or of a trusted origin, or the visitor's own hand.
    Own,
    /// Another site's page.
    Foreign,
    /// The browser does not say, or it is none.
    Unknown,
}

/// Reads `Sec-Fetch-Site` (W3C Fetch Metadata), which no page can set, and `Origin` where a browser does not send it. Chromium
/// leaves `Sec-Fetch-Site` out over plain HTTP.
pub(super) fn provenance(request: &Parts, trusted: &[Origin]) -> Provenance {
    let named = request.headers.get(ORIGIN);
    let origin = named.and_then(|origin| Origin::parse(origin.to_str().ok()?));
    if origin.as_ref().is_some_and(|origin| trusted.contains(origin)) {
        return Provenance::Own;
    }
    match (request.headers.get("sec-fetch-site"), named) {
        (Some(site), _) if site == "same-origin" || site == "none" => Provenance::Own,
        // Hosts of one site are no friends: cookies pass between them, and so would forged requests.
        (Some(_), _) => Provenance::Foreign,
        (None, Some(_)) if origin.is_some_and(|origin| origin.is_of(request)) => Provenance::Own,
        (None, Some(_)) => Provenance::Foreign,
        (None, None) => Provenance::Unknown,
    }
}

/// True if the request asks for a WebSocket, or for something else by an extended CONNECT (RFC 8441, RFC 9220). Its script has no way to
/// send a token. No page can make any other request look like one: `Upgrade` and CONNECT are forbidden to scripts.
pub(super) fn is_handshake(method: &Method, headers: &HeaderMap) -> bool {
    let websocket = |value: &HeaderValue| {
        let mut protocols = value.as_bytes().split(|byte| *byte == b',');
        protocols.any(|protocol| protocol.trim_ascii().eq_ignore_ascii_case(b"websocket"))
    };
    match *method {
        Method::GET => headers.get_all(UPGRADE).iter().any(websocket),
        Method::CONNECT => true,
        _ => false,
    }
}

/// Scheme, host and port of a page's address (RFC 6454). Equal if a browser takes them for the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    secure: bool,
    host: Box<str>,
    port: u16,
}

impl Origin {
    /// `None` for what is no http or https origin, such as `null`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let secure = scheme.eq_ignore_ascii_case("https");
        if !secure && !scheme.eq_ignore_ascii_case("http") {
            return None;
        }
        let (host, port) = host_and_port(authority)?;
        let port = port.unwrap_or(if secure { 443 } else { 80 });
        Some(Origin { secure, host: host.to_ascii_lowercase().into(), port })
    }

    /// True if the request is for this origin's host and port. Its scheme is not looked at, since a proxy may have taken the
    /// encryption off; a host without a port is the default of whichever scheme the page has.
    fn is_of(&self, request: &Parts) -> bool {
        let host = request.headers.get(HOST).map(HeaderValue::as_bytes);
        // HTTP/2 names the host in the target.
        let host = host.or_else(|| request.uri.authority().map(|authority| authority.as_str().as_bytes()));
        let host = host.and_then(|host| host_and_port(std::str::from_utf8(host).ok()?));
        host.is_some_and(|(host, port)| {
            let default = if self.secure { 443 } else { 80 };
            host.eq_ignore_ascii_case(&self.host) && port.unwrap_or(default) == self.port
        })
    }
}

/// The parts of `example.com`, `example.com:8443` or `[::1]:8443`; an empty port is none (RFC 3986, section 3.2.3).
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

    fn told(uri: &str, headers: &[(&str, &str)]) -> Provenance {
        let mut request = Request::post(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let trusted = [Origin::parse("https://app.example").unwrap()];
        provenance(&request.body(()).unwrap().into_parts().0, &trusted)
    }

    #[test]
    fn the_browsers_own_word_decides() {
        for (site, expected) in [
            ("same-origin", Provenance::Own),
            ("none", Provenance::Own),
            ("same-site", Provenance::Foreign),
            ("cross-site", Provenance::Foreign),
            ("", Provenance::Foreign),
            ("Same-Origin", Provenance::Foreign),
        ] {
            let headers = [("sec-fetch-site", site), ("host", "a.example"), ("origin", "https://a.example")];
            assert_eq!(told("/", &headers), expected, "{site}");
        }
    }

    #[test]
    fn an_older_browsers_origin_must_be_the_host() {
        let from = |origin| told("/", &[("origin", origin), ("host", "a.example:3000")]);
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
        assert_eq!(told("/", &[("origin", "https://a.example")]), Provenance::Foreign, "of no known host");
        let http2 = told("https://a.example/", &[("origin", "https://a.example")]);
        assert_eq!(http2, Provenance::Own);
    }

    #[test]
    fn a_trusted_origin_is_as_good_as_the_sites_own() {
        let headers = [("origin", "https://app.example"), ("sec-fetch-site", "same-site")];
        assert_eq!(told("/", &headers), Provenance::Own);
        let headers = [("origin", "https://app.example.evil"), ("sec-fetch-site", "cross-site")];
        assert_eq!(told("/", &headers), Provenance::Foreign);
    }

    #[test]
    fn what_is_no_browser_says_nothing() {
        assert_eq!(told("/", &[("host", "a.example")]), Provenance::Unknown);
    }

    #[test]
    fn a_default_port_is_the_same_as_none() {
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
            assert_eq!(told("/", &[("host", host), ("origin", origin)]), expected, "{host} from {origin}");
        }
    }

    #[test]
    fn handshakes_are_known_by_upgrade_or_connect() {
        let headers =
            |value: &'static str| HeaderMap::from_iter([(UPGRADE, HeaderValue::from_static(value))]);
        for upgrade in ["websocket", "WebSocket", "foo, websocket"] {
            assert!(is_handshake(&Method::GET, &headers(upgrade)), "{upgrade}");
        }
        assert!(is_handshake(&Method::CONNECT, &HeaderMap::new()));
        assert!(!is_handshake(&Method::GET, &headers("h2c")));
        assert!(!is_handshake(&Method::GET, &HeaderMap::new()));
        assert!(!is_handshake(&Method::POST, &headers("websocket")), "a POST is no handshake");
    }
}
