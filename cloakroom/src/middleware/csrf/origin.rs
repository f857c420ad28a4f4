//! What the browser says of where a request comes from.

use http::HeaderValue;
use http::header::{HOST, ORIGIN};
use http::request::Parts;

/// What can be told of where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Provenance {
    /// A page of this site or of a trusted origin, or the visitor's own hand.
    Own,
    /// Another site's page.
    Foreign,
    /// The browser does not say, or it is none.
    Unknown,
}

/// Reads `Sec-Fetch-Site` (W3C Fetch Metadata), which no page can set, and `Origin` where a browser does not send it.
pub(super) fn provenance(request: &Parts, trusted: &[HeaderValue]) -> Provenance {
    let origin = request.headers.get(ORIGIN);
    if origin.is_some_and(|origin| trusted.contains(origin)) {
        return Provenance::Own;
    }
    match (request.headers.get("sec-fetch-site"), origin) {
        (Some(site), _) if site == "same-origin" || site == "none" => Provenance::Own,
        // Neighbours under one domain are no friends: cookies pass between them, and so would forged requests.
        (Some(_), _) => Provenance::Foreign,
        (None, Some(origin)) if is_host(origin, request) => Provenance::Own,
        (None, Some(_)) => Provenance::Foreign,
        (None, None) => Provenance::Unknown,
    }
}

/// Whether `origin` is the host that the request is for. Whether by http or https is not asked: a proxy may have taken the
/// encryption off.
fn is_host(origin: &HeaderValue, request: &Parts) -> bool {
    let host = request.headers.get(HOST).map(HeaderValue::as_bytes);
    // HTTP/2 names the host in the target.
    let host = host.or_else(|| request.uri.authority().map(|authority| authority.as_str().as_bytes()));
    let from = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    from.zip(host).is_some_and(|((_, from), host)| from.as_bytes().eq_ignore_ascii_case(host))
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
        let trusted = [HeaderValue::from_static("https://app.example")];
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
        for foreign in ["http://a.example", "https://b.example:3000", "null", "", "a.example:3000"] {
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
}
