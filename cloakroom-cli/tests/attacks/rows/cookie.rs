//! Rows 11 to 23: the cookie.

use std::time::Duration;

use cloakroom::{ErrorKind, Manager, ManagerBuilder, MemoryProvider, config::SameSite, event::EventKind};

use super::Outcome;
use super::identifier::MADE_UP;
use crate::site::Setup;
use crate::target::Target;
use crate::visitor::{Request, put};

/// Asserts that these settings are refused when the manager is built.
#[track_caller]
fn refused(settings: impl FnOnce(ManagerBuilder) -> ManagerBuilder) {
    let error = settings(Manager::builder(MemoryProvider::new())).build().expect_err("no manager");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
}

pub(super) async fn row_11_secure_on_every_scheme(target: &Target) -> Outcome {
    let setup = Setup::new(target).await;
    for (name, value) in [
        ("X-Forwarded-Proto", "http"),
        ("X-Forwarded-Proto", "https"),
        ("Forwarded", "proto=http"),
        ("X-Scheme", "http"),
    ] {
        let answer = setup.visitor().send(put("key", "value").header(name, value)).await;
        let cookie = answer.set_cookie("__Host-id").expect("a cookie");
        assert!(cookie.attributes.contains(&"secure".to_owned()), "{name}: {value}");
    }
    Outcome::Held
}

/// The check happens at build, so the provider does not matter.
pub(super) async fn row_12_host_prefix_is_checked_at_build(target: &Target) -> Outcome {
    for name in ["__Host-id", "__host-ID"] {
        refused(|builder| builder.cookie_name(name).cookie_domain("example.com"));
        refused(|builder| builder.cookie_name(name).cookie_path("/shop"));
        refused(|builder| builder.cookie_name(name).secure(false));
    }
    refused(|builder| builder.cookie_name("__Secure-id").secure(false));
    let setup =
        Setup::with(target, |builder| builder.cookie_name("__Secure-id").cookie_domain("example.com")).await;
    let answer = setup.visitor().try_set("key", "value").await;
    let cookie = answer.set_cookie("__Secure-id").expect("a cookie");
    assert_eq!(cookie.attributes, ["domain=example.com", "httponly", "path=/", "samesite=lax", "secure"]);
    Outcome::Held
}

/// Every answer of every row is searched for the id; this row searches the answers of every route.
pub(super) async fn row_13_the_id_is_only_in_set_cookie(target: &Target) -> Outcome {
    let setup = Setup::new(target).await;
    let mut visitor = setup.visitor();
    let answer = visitor.try_set("key", "value").await;
    assert!(answer.set_cookie("__Host-id").expect("a cookie").attributes.contains(&"httponly".to_owned()));
    visitor.login("alice").await;
    let mut seen = 0;
    for path in [
        "/",
        "/healthz",
        "/style.css",
        "/api/session",
        "/api/session/data/key",
        "/api/sessions",
        "/api/active",
        "/api/untouched",
        "/api/nothing",
        "/nothing",
        "/rig/get",
        "/rig/keys",
        "/rig/late",
    ] {
        let answer = visitor.get(path).await;
        assert!(!answer.leaks(&visitor.id()), "{path}");
        seen += usize::from(answer.status() == 200);
    }
    assert!(seen >= if setup.store.capabilities().lists { 11 } else { 9 }, "{seen} answers");
    for path in ["/api/fail", "/api/session/regenerate", "/api/session/data/sum/increment", "/api/logout"] {
        let brought = visitor.id();
        let answer = visitor.post(path).await;
        assert!(!answer.leaks(&brought), "{path}");
    }
    Outcome::Held
}

pub(super) async fn row_14_same_site_is_always_sent(target: &Target) -> Outcome {
    refused(|builder| builder.cookie_name("id").secure(false).same_site(SameSite::None));
    for (setting, expected) in [(SameSite::Lax, "samesite=lax"), (SameSite::Strict, "samesite=strict")] {
        let setup = Setup::with(target, |builder| builder.same_site(setting)).await;
        let answer = setup.visitor().try_set("key", "value").await;
        let cookie = answer.set_cookie("__Host-id").expect("a cookie");
        assert_eq!(cookie.attributes, ["httponly", "path=/", expected, "secure"]);
    }
    Outcome::Held
}

pub(super) async fn row_15_the_cookie_ends_with_the_browser(target: &Target) -> Outcome {
    let setup = Setup::new(target).await;
    let mut visitor = setup.visitor();
    for answer in [visitor.try_set("key", "value").await, visitor.try_login("alice").await] {
        let cookie = answer.set_cookie("__Host-id").expect("a cookie");
        assert_eq!((cookie.max_age, cookie.expires), (None, false));
    }
    let day = Duration::from_secs(24 * 60 * 60);
    let setup = Setup::with(target, |builder| builder.cookie_lifetime(Some(day))).await;
    let mut visitor = setup.visitor();
    let mut left = 8 * 60 * 60;
    let answer = visitor.try_login("alice").await;
    assert_eq!(answer.set_cookie("__Host-id").expect("a cookie").max_age, Some(left));
    // The cookie is renewed with use, and never past the rest of the eight hours.
    for _ in 0..19 {
        setup.time.advance(Duration::from_secs(25 * 60));
        left -= 25 * 60;
        let answer = visitor.get("/api/session").await;
        let cookie = answer.set_cookie("__Host-id").expect("the cookie is renewed");
        assert!(cookie.max_age.expect("a lifetime") <= left, "{:?} of {left} s", cookie.max_age);
    }
    refused(|builder| builder.cookie_lifetime(Some(Duration::MAX)));
    refused(|builder| builder.cookie_lifetime(Some(Duration::from_secs(i64::MAX as u64))));
    Outcome::Held
}

/// Uses the longest names that the settings allow. Where the cookie contains the session, it grows until it is
/// refused.
pub(super) async fn row_16_no_cookie_above_4096_bytes(target: &Target) -> Outcome {
    let (name, path) = (format!("__Secure-{}", "n".repeat(118)), format!("/{}", "p".repeat(1023)));
    let domain = format!("{}example.com", "d.".repeat(121));
    let setup = Setup::with(target, |builder| {
        builder.cookie_name(&*name).cookie_path(&*path).cookie_domain(&*domain)
    })
    .await;
    let mut visitor = setup.visitor();
    let mut refusals = 0;
    for bytes in (0..4_000).step_by(40).chain([60_000]) {
        let answer = visitor.try_set("key", &"x".repeat(bytes)).await;
        match answer.status() {
            413 => {
                assert_eq!(answer.header("set-cookie"), None);
                refusals += 1;
            }
            status => assert_eq!(status, 204, "{}", answer.text()),
        }
        if let Some(cookie) = answer.set_cookie(&name) {
            assert!(name.len() + cookie.token.len() <= 4096, "{bytes} bytes in {}", cookie.token.len());
            assert!(cookie.attributes.iter().all(|attribute| attribute.len() <= 1024 + "path=".len()));
        }
    }
    assert_eq!(refusals > 0, setup.store.capabilities().token_is_record());
    assert!(visitor.is_alive().await);
    refused(|builder| builder.cookie_name("n".repeat(129)));
    refused(|builder| builder.cookie_name("id").cookie_path(format!("/{}", "p".repeat(1024))));
    Outcome::Held
}

pub(super) async fn row_17_one_set_cookie(target: &Target) -> Outcome {
    let setup = Setup::new(target).await;
    let mut visitor = setup.visitor();
    visitor.set("before", "value").await;
    let before = visitor.id();
    let answer = visitor.post("/rig/do/login-and-regenerate").await;
    assert_eq!((answer.status(), answer.head.all("set-cookie").count()), (200, 1));
    assert_ne!(visitor.id(), before);
    assert_eq!(visitor.value("key").await.as_deref(), Some("both"));
    // The session's cookie wins over a cookie of the same name from the handler.
    let mut other = setup.visitor();
    let answer = other.post("/rig/own-cookie").await;
    assert_eq!((answer.status(), answer.head.all("set-cookie").count()), (200, 1));
    assert_ne!(other.id(), "forged");
    assert_eq!(other.value("key").await.as_deref(), Some("own"));
    Outcome::Held
}

/// The check happens at build, so the provider does not matter.
pub(super) async fn row_18_odd_cookie_settings_are_refused(_: &Target) -> Outcome {
    for name in
        ["", "=", "a=b", "=__Host-id", "a b", "a;b", "a\r\nSet-Cookie: x=y", "a\0", "\u{a0}id", "ü", "a,b"]
    {
        refused(|builder| builder.cookie_name(name));
    }
    for path in ["/;Domain=e", "/\r\nX: y", "/\0", "shop", "", "/\u{7f}", "/ü"] {
        refused(|builder| builder.cookie_name("id").cookie_path(path));
    }
    for domain in ["", "a;b", "a\r\nb", "a..b", "a b", "ü.example", ";Secure"] {
        refused(|builder| builder.cookie_name("id").cookie_domain(domain));
    }
    Outcome::Held
}

pub(super) async fn row_19_two_live_cookies_are_anonymous(target: &Target) -> Outcome {
    let setup = Setup::new(target).await;
    let mut gone = setup.user("former").await;
    let ended = gone.id();
    gone.logout().await;
    setup.time.advance(Duration::from_secs(61));
    // Without revocations a token works even after its logout: row 31.
    let stale = if setup.store.capabilities().revocable { ended } else { format!("{}B", &MADE_UP[1..]) };
    let (alice, mallory) = (setup.user("alice").await.id(), setup.user("mallory").await.id());
    let user = async |ids: &[&str]| {
        let pairs: Vec<_> = ids.iter().map(|id| format!("__Host-id={id}")).collect();
        let one_header = Request::new("GET", "/api/session").header("Cookie", pairs.join("; "));
        let several = pairs
            .iter()
            .fold(Request::new("GET", "/api/session"), |request, pair| request.header("Cookie", pair));
        let mut answers = Vec::new();
        for request in [one_header, several] {
            let answer = setup.visitor().send(request).await;
            assert_eq!((answer.status(), answer.header("set-cookie")), (200, None));
            answers.push(answer.json()["principal"].as_str().map(str::to_owned));
        }
        assert_eq!(answers[0], answers[1], "one header or several");
        answers[0].as_ref().map(|user| user.trim_start_matches(crate::log::USER).to_owned())
    };
    let (a, m, s, u) = (&*alice, &*mallory, &*stale, MADE_UP);
    for ids in [
        &[a][..],
        &[a, s],
        &[s, a],
        &[u, a],
        &[a, u],
        &[s, u, a],
        &[u, a, s],
        &[a, a],
        &[a, "../x"],
        &["x", a],
    ] {
        assert_eq!(user(ids).await.as_deref(), Some("alice"), "{} cookies, one of them live", ids.len());
    }
    setup.site.events();
    for ids in [&[a, m][..], &[m, a], &[a, s, m], &[s, m, a], &[m, a, u], &[a, m, a], &[m, u, s, a]] {
        assert_eq!(user(ids).await, None, "{} cookies, two of them live", ids.len());
        assert!(setup.site.event_kinds().contains(&EventKind::Duplicate));
    }
    // More cookies than are looked up: an attacker who plants them hides the visitor's, and gains nothing else.
    let others = ["a", "b", "c", "d", "e", "f"].into_iter().filter(|first| !a.starts_with(*first)).take(5);
    let planted: Vec<_> = others.map(|first| format!("{first}{}", &a[1..])).collect();
    let mut many: Vec<_> = planted.iter().map(String::as_str).collect();
    many.push(a);
    assert_eq!(user(&many).await, None);
    many.rotate_right(1);
    assert_eq!(user(&many).await, None);
    assert!(setup.visitor().with(a).is_alive().await);
    Outcome::Held
}

/// HTTP/2 clients send each cookie as a field of its own. The application sees several headers, as sent here.
pub(super) async fn row_20_several_cookie_headers_are_one(target: &Target) -> Outcome {
    let setup = Setup::new(target).await;
    let id = setup.user("alice").await.id();
    let pair = format!("__Host-id={id}");
    for headers in [
        vec!["a=1", &pair, "b=2"],
        vec![&pair, "a=1"],
        vec!["a=1", "b=2", &pair],
        vec!["", &pair],
        vec!["a=1; b=\"2", &pair],
        vec!["a=1;\t  c", &pair, ";;;"],
    ] {
        let request = headers
            .iter()
            .fold(Request::new("GET", "/api/session"), |request, header| request.header("Cookie", header));
        let joined = Request::new("GET", "/api/session").header("cookie", headers.join("; "));
        for request in [request, joined] {
            assert_eq!(
                setup.visitor().send(request).await.json()["present"],
                true,
                "{} headers",
                headers.len()
            );
        }
    }
    Outcome::Held
}

pub(super) async fn row_21_names_are_compared_by_byte(target: &Target) -> Outcome {
    let setup = Setup::new(target).await;
    let id = setup.user("alice").await.id();
    for start in [
        "\u{2000}__Host-id=",
        "\u{a0}__Host-id=",
        "\u{85}__Host-id=",
        "\u{feff}__Host-id=",
        "%5F%5FHost-id=",
        "%5f%5fhost-id=",
        "..Host-id=",
        "__host-id=",
        "__HOST-ID=",
        "__Host-ID=",
        "=__Host-id=",
        "__Host-id =",
        "__Host-id\t=",
        "__Host-id[]=",
        "__Host-id%00=",
        "a__Host-id=",
        "$__Host-id=",
        "__Host-id:",
        "\u{ff3f}_Host-id=",
        "x=\"__Host-id=",
        "__Secure-id=",
        "id=",
    ] {
        for header in [format!("{start}{id}"), format!("a=1; {start}{id}"), format!("{start}{id}; a=1")] {
            let answer =
                setup.visitor().send(Request::new("GET", "/api/session").header("Cookie", &header)).await;
            assert_eq!(answer.json()["present"], false, "{start:?}");
        }
    }
    // A single byte of Latin-1, in which 0xA0 is a no-break space.
    for blank in [0xa0, 0x85, 0xff] {
        let header = [&[blank], format!("__Host-id={id}").as_bytes()].concat();
        let answer =
            setup.visitor().send(Request::new("GET", "/api/session").header("Cookie", &header)).await;
        assert_eq!(answer.json()["present"], false, "{blank:#x}");
    }
    for header in
        [format!("a=1;__Host-id={id}"), format!("a=1;\t __Host-id={id} ;b=2"), format!(" __Host-id={id}")]
    {
        let answer =
            setup.visitor().send(Request::new("GET", "/api/session").header("Cookie", &header)).await;
        assert_eq!(answer.json()["present"], true, "only blanks and tabs are trimmed");
    }
    Outcome::Held
}

pub(super) async fn row_22_an_id_is_only_read_from_the_cookie(target: &Target) -> Outcome {
    let setup = Setup::new(target).await;
    let id = setup.user("alice").await.id();
    for path in [
        format!("/api/session?id={id}"),
        format!("/api/session?__Host-id={id}"),
        format!("/api/session?sid={id}&session={id}"),
        format!("/api/session;__Host-id={id}"),
        format!("/api/session#__Host-id={id}"),
    ] {
        let answer = setup.visitor().get(&path).await;
        assert!(!matches!(answer.status(), 200) || answer.json()["present"] == false, "{}", answer.status());
    }
    for name in ["X-Session", "X-Session-Id", "Authorization", "Session", "Sid", "Cookie2", "Set-Cookie"] {
        for value in [id.clone(), format!("Bearer {id}"), format!("__Host-id={id}")] {
            let answer = setup.visitor().send(Request::new("GET", "/api/session").header(name, value)).await;
            assert_eq!(answer.json()["present"], false, "{name}");
        }
    }
    let form = Request::new("POST", "/note")
        .header("content-type", "application/x-www-form-urlencoded")
        .header("sec-fetch-site", "same-origin");
    let mut stranger = setup.visitor();
    stranger.send(form.body(format!("__Host-id={id}&id={id}&note=stored-v4lue-x"))).await;
    assert_eq!(setup.visitor().with(&id).session().await["keys"], serde_json::json!([]));
    // `id_header` allows exactly one header.
    let name = http::HeaderName::from_static("x-own");
    let setup = Setup::with(target, |builder| builder.id_header(name)).await;
    let login = Request::new("POST", "/api/login").header("content-type", "application/json");
    let answers = setup.visitor().flood(&login.body(r#"{"user":"us3r-of-the-tests-alice"}"#), 1).await;
    let id = answers[0].header("x-own").expect("the id").to_owned();
    let by =
        async |name: &str| setup.visitor().send(Request::new("GET", "/api/session").header(name, &id)).await;
    assert_eq!(by("X-Own").await.json()["present"], true);
    assert_eq!(by("X-Session").await.json()["present"], false);
    Outcome::Held
}

pub(super) async fn row_23_a_logout_clears_the_cookie(target: &Target) -> Outcome {
    type Settings = fn(ManagerBuilder) -> ManagerBuilder;
    let settings: [(&str, Settings); 3] = [
        ("__Host-id", |builder| builder),
        ("__Secure-x", |builder| {
            builder.cookie_name("__Secure-x").cookie_domain("example.com").cookie_path("/a")
        }),
        ("x", |builder| {
            builder.cookie_name("x").secure(false).cookie_lifetime(Some(Duration::from_secs(3600)))
        }),
    ];
    for (name, settings) in settings {
        let setup = Setup::with(target, settings).await;
        let mut visitor = setup.visitor();
        let set = visitor.try_login("alice").await.set_cookie(name).expect("a cookie");
        let before = visitor.id();
        let answer = visitor.post("/api/logout").await;
        let removal = answer.set_cookie(name).expect("a removal");
        // A browser replaces a cookie only by one with the same name, domain and path, and a Secure one only by a
        // Secure one.
        assert_eq!(removal.attributes, set.attributes, "{name}");
        assert_eq!((&*removal.token, removal.max_age, removal.expires), ("", Some(0), true));
        assert_eq!(visitor.token(), None);
        if setup.store.capabilities().revocable {
            visitor.with(&before).assert_fresh().await;
        }
    }
    Outcome::Held
}
