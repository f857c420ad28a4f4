//! Whether a request to the API comes from the site's own pages, so that no other site acts in a visitor's name. The page's forms
//! carry a token besides: see `CsrfLayer`.
//!
//! The cookie's `SameSite=Lax` keeps it from other sites' forms already; this is the second door, and it counts where somebody has
//! configured `SameSite` off.

use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, Method};

/// Whether a browser says that another site's page has sent this request, which is about to change something.
///
/// What is no browser says neither `Sec-Fetch-Site` nor `Origin`, and brings nobody's cookie but its own.
pub(crate) fn is_foreign(method: &Method, headers: &HeaderMap) -> bool {
    if method.is_safe() {
        return false;
    }
    match (headers.get("sec-fetch-site"), headers.get(ORIGIN)) {
        (Some(site), _) => site != "same-origin" && site != "none",
        (None, Some(origin)) => {
            let host = headers.get(HOST).map(|host| host.as_bytes());
            let from = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
            from.map(|(_, authority)| authority.as_bytes()) != host
        }
        (None, None) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn foreign(method: Method, headers: &[(&'static str, &'static str)]) -> bool {
        let mut all = HeaderMap::new();
        for (name, value) in headers {
            all.insert(*name, value.parse().unwrap());
        }
        is_foreign(&method, &all)
    }

    #[test]
    fn the_browsers_own_word_decides() {
        for (site, refused) in
            [("same-origin", false), ("none", false), ("same-site", true), ("cross-site", true)]
        {
            assert_eq!(foreign(Method::POST, &[("sec-fetch-site", site)]), refused, "{site}");
            assert!(!foreign(Method::GET, &[("sec-fetch-site", site)]), "{site}");
        }
    }

    #[test]
    fn an_older_browsers_origin_must_be_the_host() {
        let post = |origin| foreign(Method::POST, &[("origin", origin), ("host", "localhost:3000")]);
        assert!(!post("http://localhost:3000"));
        assert!(post("http://localhost:4000"));
        assert!(post("https://evil.example"));
        assert!(post("null"));
        assert!(foreign(Method::DELETE, &[("origin", "http://localhost")]));
    }

    #[test]
    fn what_is_no_browser_passes() {
        assert!(!foreign(Method::POST, &[("host", "localhost:3000")]));
    }
}
