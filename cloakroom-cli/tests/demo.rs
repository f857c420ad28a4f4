//! The program's start and stop, and its pages without a browser.

mod support;

use http::Method;
use serde_json::json;
use support::{Answer, Client, Server, program};

/// Follows the redirect to the start page and returns that page.
async fn followed(client: &mut Client, answer: Answer) -> String {
    assert_eq!((answer.status, answer.header("location")), (303, Some("/")), "{}", answer.body);
    let page = client.get("/").await;
    assert_eq!(page.status, 200);
    page.body
}

/// Signs in and returns the page.
async fn signed_in(client: &mut Client, user: &str) -> String {
    let answer = client.form("/sign-in", &format!("user={user}")).await;
    followed(client, answer).await
}

/// Returns the HTML inside the element with this id.
fn text<'a>(html: &'a str, id: &str) -> Option<&'a str> {
    let (_, rest) = html.split_once(&format!("id=\"{id}\""))?;
    let (_, rest) = rest.split_once('>')?;
    Some(rest.split_once("</")?.0.trim_start_matches("<bdi>").trim_start_matches('\n'))
}

#[test]
fn a_failed_start_exits_with_1_and_one_line_that_says_why() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let cases: [(&[&str], &str); 8] = [
        (&["--provider", "file"], "error: provider \"file\" needs a configuration; "),
        (&["--provider", "redis"], "\"providerConfig\":\"redis://127.0.0.1:6379/\""),
        (&["--provider", "postgres"], "\"providerConfig\":\"postgres://user:password@127.0.0.1:5432/app\""),
        (&["--provider", "postgresql"], "error: provider \"postgresql\" needs a configuration; "),
        (&["--provider", "nope"], "no provider is registered as \"nope\""),
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
async fn a_stop_lets_requests_in_progress_finish() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let slow = tokio::spawn(async move { client.put("/api/session/data/key?delay=300", "1").await });
    server.paused(1).await;
    assert_eq!(server.terminated().await, Some(0));
    slow.await.unwrap().done();
}

#[tokio::test]
async fn weak_settings_are_warned_about_and_the_defaults_are_not() {
    let server = Server::start(&[]);
    assert!(!server.started().await.contains("WARN"));
    let server = Server::start(&["--config", "{\"cookieName\":\"id\",\"secure\":false}"]);
    let log = server.started().await;
    assert!(log.contains("WARN") && log.contains("secure is off"), "{log}");
}

#[tokio::test]
async fn a_new_visitor_gets_the_page_and_no_cookie() {
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
async fn the_page_counts_visits_and_stores_a_note() {
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

    let answer = client.form("/note", "note=Milk%0D%0Aand+bread.").await;
    let page = followed(&mut client, answer).await;
    assert_eq!(text(&page, "flash"), Some("Your note is saved."));
    assert_eq!(text(&page, "note"), Some("Milk\nand bread."));
    let page = client.get("/").await.body;
    assert_eq!((text(&page, "visits"), text(&page, "flash")), (Some("4"), None));
    assert_eq!(text(&page, "note"), Some("Milk\nand bread."));
}

#[tokio::test]
async fn a_visitors_text_is_escaped_in_the_page() {
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

#[cfg(all(feature = "postgres", unix))]
#[tokio::test]
#[ignore = "needs postgres: cargo xtask test"]
async fn a_note_on_postgres_outlives_the_program() {
    let store = servers::Postgres::start();
    let config = json!({ "cookieName": "id", "providerConfig": store.url("") }).to_string();
    let server = Server::start(&["--provider", "postgres", "--config", &config]);
    let mut client = server.client();
    signed_in(&mut client, "Ada").await;
    let answer = client.form("/note", "note=Milk").await;
    followed(&mut client, answer).await;
    assert_eq!(server.terminated().await, Some(0));

    let server = Server::start(&["--provider", "postgresql", "--config", &config]);
    let mut client = client.at(&server);
    let page = client.get("/").await.body;
    assert_eq!((text(&page, "name"), text(&page, "note")), (Some("Ada"), Some("Milk")));
    assert_eq!(store.sql("SELECT count(*) FROM cloakroom_sessions WHERE NOT tombstone"), "1\n");
    let answer = client.form("/sign-out", "").await;
    followed(&mut client, answer).await;
    assert_eq!(store.sql("SELECT count(*) FROM cloakroom_sessions WHERE NOT tombstone"), "0\n");
}

#[tokio::test]
async fn signing_out_ends_the_session_and_leaves_no_cookie() {
    let server = Server::start(&[]);
    let mut client = server.client();
    signed_in(&mut client, "Ada").await;
    let mut old = client.clone();
    let answer = client.form("/sign-out", "").await;
    let page = followed(&mut client, answer).await;
    assert_eq!(text(&page, "flash"), Some("You are signed out."));
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
    assert!(!page.contains("id=\"end-others\""), "there is no other session yet");
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
    assert_eq!(text(&followed(&mut client, answer).await, "flash"), Some("That session had already ended."));
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
async fn an_action_in_an_ended_session_redirects_to_the_start() {
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
async fn every_error_is_a_page_with_the_next_step() {
    let server = Server::start(&[]);
    let mut client = server.client();
    signed_in(&mut client, "Ada").await;
    let long = format!("note={}", "x".repeat(2001));
    let cases = [
        (Method::GET, "/nope", "", 404, "Page not found", "Check the address"),
        (Method::PUT, "/note", "", 405, "Method not allowed", "Use the forms"),
        (Method::POST, "/sign-in", "user=+", 400, "Name not accepted", "enter another one"),
        (Method::POST, "/sign-in", "name=Ada", 400, "Form not understood", "send it again"),
        (Method::POST, "/note", &long, 413, "Note too long", "shorten it"),
    ];
    let token = client.token();
    let headers = [("content-type", "application/x-www-form-urlencoded"), ("x-csrf-token", &*token)];
    for (method, path, body, status, title, next_step) in cases {
        let answer = client.send(method, path, &headers, body).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        assert!(answer.body.contains(&format!("<h1>{title}</h1>")), "{}", answer.body);
        assert!(answer.body.contains(next_step), "{}", answer.body);
        assert_eq!(answer.set_cookie(), None);
    }
}

#[tokio::test]
async fn a_form_of_another_site_is_refused() {
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
        assert!(answer.body.contains("<h1>Form refused</h1>"), "{}", answer.body);
    }
    let origin = [("origin", &*format!("http://{}", server.address())), ("x-csrf-token", &own)];
    assert_eq!(client.get("/api/session").await.json()["present"], true);
    assert_eq!(client.send(Method::POST, "/sign-out", &origin, "").await.status, 303);
}

#[tokio::test]
async fn the_page_ignores_values_of_other_types_under_its_keys() {
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
async fn style_and_icon_use_no_session() {
    let server = Server::start(&[]);
    let mut client = server.client();
    signed_in(&mut client, "Ada").await;
    for (path, kind) in [("/style.css", "text/css; charset=utf-8"), ("/icon.svg", "image/svg+xml")] {
        let answer = client.get(path).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(kind)));
        assert_eq!((answer.header("vary"), answer.set_cookie()), (None, None));
    }
}
