//! The program's start and stop, and its page as it is without a browser.

mod support;

use http::Method;
use serde_json::json;
use support::{Answer, Client, Server, program};

/// Follows the 303 home that an action answers.
async fn followed(client: &mut Client, answer: Answer) -> String {
    assert_eq!((answer.status, answer.header("location")), (303, Some("/")), "{}", answer.body);
    let page = client.get("/").await;
    assert_eq!(page.status, 200);
    page.body
}

/// The page after signing in.
async fn signed_in(client: &mut Client, user: &str) -> String {
    let answer = client.form("/sign-in", &format!("user={user}")).await;
    followed(client, answer).await
}

/// The text of the element with this id, as it stands in the HTML.
fn text<'a>(html: &'a str, id: &str) -> Option<&'a str> {
    let (_, rest) = html.split_once(&format!("id=\"{id}\""))?;
    let (_, rest) = rest.split_once('>')?;
    Some(rest.split_once("</")?.0.trim_start_matches("<bdi>").trim_start_matches('\n'))
}

#[test]
fn what_cannot_start_says_why_in_one_line_and_exits_with_1() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let cases: [(&[&str], &str); 6] = [
        (&["--provider", "file"], "error: provider \"file\" needs --config, "),
        (&["--provider", "redis"], "\"providerConfig\":\"redis://127.0.0.1:6379/\""),
        (&["--provider", "nope"], "error: provider \"nope\" needs --config, "),
        (
            &["--provider", "nope", "--config", "{\"cookieName\":\"id\"}"],
            "no provider is registered as \"nope\"",
        ),
        (&["--config", "{\"cookieNam\":\"id\"}"], "cookieName"),
        (&["--addr", &taken], "error: cannot listen on 127.0.0.1:"),
    ];
    for (arguments, expected) in cases {
        let output = program().arg("demo").args(arguments).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {stderr}");
        assert!(stderr.starts_with("error: ") && stderr.contains(expected), "{arguments:?}: {stderr}");
        assert_eq!(stderr.trim_end().lines().count(), 1, "{stderr}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
#[cfg(not(feature = "mysql"))]
fn a_command_without_its_feature_names_the_feature() {
    let output = program().args(["schema", "mysql"]).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("built without the feature mysql"), "{stderr}");
}

#[test]
fn a_wrong_usage_exits_with_2() {
    for arguments in [&["demo", "--nope"][..], &["demo", "--addr", "here"], &["nope"], &[]] {
        let output = program().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn it_stops_when_asked_and_finishes_what_is_under_way() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let slow = tokio::spawn(async move { client.put("/api/session/data/key?delay=300", "1").await });
    server.paused(1).await;
    assert_eq!(server.terminated().await, Some(0));
    slow.await.unwrap().done();
}

#[tokio::test]
async fn the_builders_defaults_bring_no_advice_and_weaker_ones_do() {
    let server = Server::start(&[]);
    assert!(!server.started().await.contains("WARN"));
    let server = Server::start(&["--config", "{\"cookieName\":\"id\",\"secure\":false}"]);
    let log = server.started().await;
    assert!(log.contains("WARN") && log.contains("secure is off"), "{log}");
}

#[tokio::test]
async fn a_newcomer_gets_the_page_and_no_cookie() {
    let server = Server::start(&[]);
    let mut client = server.client();
    for _ in 0..2 {
        let page = client.get("/").await;
        assert_eq!((page.status, page.set_cookie()), (200, None));
        assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
        assert!(page.body.contains("action=\"/sign-in\""));
    }
    client.get("/api/active").await.is(json!({ "active": 0 }));
}

#[tokio::test]
async fn the_page_counts_visits_keeps_a_note_and_says_things_once() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let page = signed_in(&mut client, "Ada").await;
    assert_eq!(text(&page, "name"), Some("Ada"));
    assert_eq!(text(&page, "visits"), Some("1"));
    assert!(text(&page, "flash").unwrap().starts_with("You are signed in."));
    assert_eq!(text(&page, "expires"), Some("in 30 minutes"));

    let page = client.get("/").await.body;
    assert_eq!((text(&page, "visits"), text(&page, "flash")), (Some("2"), None));
    assert_eq!(text(&page, "note"), Some(""));

    let answer = client.form("/note", "note=The+blue+umbrella%0D%0Ais+mine.").await;
    let page = followed(&mut client, answer).await;
    assert_eq!(text(&page, "flash"), Some("Your note is kept."));
    assert_eq!(text(&page, "note"), Some("The blue umbrella\nis mine."));
    let page = client.get("/").await.body;
    assert_eq!((text(&page, "visits"), text(&page, "flash")), (Some("4"), None));
    assert_eq!(text(&page, "note"), Some("The blue umbrella\nis mine."));
}

#[tokio::test]
async fn what_visitors_write_is_shown_and_never_run() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let page = signed_in(&mut client, "%3Cscript%3Ealert(1)%3C/script%3E").await;
    assert!(!page.contains("<script"), "{page}");
    assert!(page.contains("&#60;script&#62;alert(1)&#60;/script&#62;"), "{page}");
    let answer = client.form("/note", "note=%3C/textarea%3E%3Cimg%20src=x%3E%22").await;
    let page = followed(&mut client, answer).await;
    assert!(!page.contains("<img src=x"), "{page}");
    let policy = client.get("/").await;
    assert!(policy.header("content-security-policy").unwrap().starts_with("default-src 'none'; "));
    assert_eq!(policy.header("cache-control"), Some("no-store"));
}

#[tokio::test]
async fn signing_out_ends_the_session_says_so_once_and_leaves_nothing() {
    let server = Server::start(&[]);
    let mut client = server.client();
    signed_in(&mut client, "Ada").await;
    let mut old = client.clone();
    let answer = client.form("/sign-out", "").await;
    let page = followed(&mut client, answer).await;
    assert!(text(&page, "flash").unwrap().starts_with("You are signed out."), "{page}");
    assert_eq!(client.cookie(), None);
    assert_eq!(text(&client.get("/").await.body, "flash"), None);
    assert!(old.get("/").await.body.contains("action=\"/sign-in\""));
    client.get("/api/active").await.is(json!({ "active": 0 }));
    let answer = client.form("/sign-out", "").await;
    assert_eq!((answer.status, answer.set_cookie()), (303, None));
}

#[tokio::test]
async fn other_sessions_are_signed_out_one_by_one_or_all() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let mut others: Vec<_> = std::iter::repeat_with(|| server.client()).take(3).collect();
    let page = signed_in(&mut client, "Ada").await;
    assert!(!page.contains("id=\"end-others\""), "there is no other yet");
    for other in &mut others {
        signed_in(other, "Ada").await;
    }
    let listed = client.get("/api/sessions").await.json();
    let handle = |current: bool| {
        let mut all = listed.as_array().unwrap().iter();
        all.find(|device| device["current"] == current).unwrap()["handle"].as_str().unwrap()
    };
    let page = client.get("/").await.body;
    assert_eq!(page.matches("<code>").count(), 4);
    assert_eq!(page.matches("This one").count(), 1);

    let one = format!("/sessions/{}/end", handle(false));
    let answer = client.form(&one, "").await;
    let page = followed(&mut client, answer).await;
    assert_eq!(text(&page, "flash"), Some("That session is signed out."));
    let answer = client.form(&one, "").await;
    assert_eq!(text(&followed(&mut client, answer).await, "flash"), Some("That session had ended already."));
    let answer = client.form("/sessions/end-others", "").await;
    let page = followed(&mut client, answer).await;
    assert_eq!(text(&page, "flash"), Some("2 other sessions are signed out."));
    for other in &mut others {
        assert_eq!(other.get("/api/session").await.json()["present"], false);
    }
    let answer = client.form(&format!("/sessions/{}/end", handle(true)), "").await;
    assert!(followed(&mut client, answer).await.contains("You are signed out."));
}

#[tokio::test]
async fn an_action_in_a_session_that_has_ended_leads_home() {
    let server = Server::start(&[]);
    let mut client = server.client();
    signed_in(&mut client, "Ada").await;
    let mut elsewhere = client.clone();
    elsewhere.post("/api/logout", "").await.done();
    for (path, body) in
        [("/note", "note=x"), ("/sign-out", ""), ("/sessions/end-others", ""), ("/sessions/x/end", "")]
    {
        let answer = client.form(path, body).await;
        assert_eq!((answer.status, answer.header("location"), answer.set_cookie()), (303, Some("/"), None));
    }
    client.get("/api/active").await.is(json!({ "active": 0 }));
}

#[tokio::test]
async fn what_the_page_cannot_do_is_told_on_a_page() {
    let server = Server::start(&[]);
    let mut client = server.client();
    signed_in(&mut client, "Ada").await;
    let long = format!("note={}", "x".repeat(2001));
    let cases = [
        (Method::GET, "/nope", "", 404, "Nothing hangs here"),
        (Method::PUT, "/note", "", 405, "Not like this"),
        (Method::POST, "/sign-in", "user=+", 400, "A name, please"),
        (Method::POST, "/sign-in", "name=Ada", 400, "Not understood"),
        (Method::POST, "/note", &long, 413, "That does not fit"),
    ];
    let token = client.token();
    let headers = [("content-type", "application/x-www-form-urlencoded"), ("x-csrf-token", &*token)];
    for (method, path, body, status, title) in cases {
        let answer = client.send(method, path, &headers, body).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        assert!(answer.body.contains(&format!("<h1>{title}</h1>")), "{}", answer.body);
        assert_eq!(answer.set_cookie(), None);
    }
}

#[tokio::test]
async fn another_sites_form_does_nothing() {
    let server = Server::start(&[]);
    let mut client = server.client();
    signed_in(&mut client, "Ada").await;
    let mut other = server.client();
    signed_in(&mut other, "Ada").await;
    let (own, others) = (client.token(), other.token());
    assert!(own.len() == 86 && others.len() == 86 && own != others);
    for headers in [
        [("sec-fetch-site", "cross-site"), ("x-csrf-token", &*own)],
        [("origin", "https://evil.example"), ("x-csrf-token", &own)],
        [("sec-fetch-site", "same-origin"), ("x-csrf-token", &others)],
        [("sec-fetch-site", "same-origin"), ("x-csrf-token", "")],
    ] {
        let answer = client.send(Method::POST, "/sign-out", &headers, "").await;
        assert_eq!((answer.status, answer.set_cookie()), (403, None), "{headers:?}");
        assert!(answer.body.contains("<h1>Not from there</h1>"), "{}", answer.body);
    }
    let origin = [("origin", &*format!("http://{}", server.address())), ("x-csrf-token", &own)];
    assert_eq!(client.get("/api/session").await.json()["present"], true);
    assert_eq!(client.send(Method::POST, "/sign-out", &origin, "").await.status, 303);
}

#[tokio::test]
async fn what_the_api_put_under_the_pages_keys_does_not_break_it() {
    let server = Server::start(&[]);
    let mut client = server.client();
    signed_in(&mut client, "Ada").await;
    for key in ["visits", "note"] {
        client.put(&format!("/api/session/data/{key}"), "[\"tea\"]").await.done();
    }
    let page = client.get("/").await;
    assert_eq!(page.status, 200);
    assert_eq!(text(&page.body, "visits"), Some("1"));
    assert_eq!((text(&page.body, "note"), text(&page.body, "flash")), (Some(""), None));
}

#[tokio::test]
async fn style_and_icon_are_the_same_for_everyone() {
    let server = Server::start(&[]);
    let mut client = server.client();
    signed_in(&mut client, "Ada").await;
    for (path, kind) in [("/style.css", "text/css; charset=utf-8"), ("/icon.svg", "image/svg+xml")] {
        let answer = client.get(path).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(kind)));
        assert_eq!((answer.header("vary"), answer.set_cookie()), (None, None));
    }
}
