//! The API's routes and errors, over HTTP against the real program.

mod support;

use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};
use support::{Answer, Client, Server};

/// Returns a visitor who has logged in.
async fn logged_in(server: &Server, user: &str) -> Client {
    let mut client = server.client();
    client.login(user).await;
    client
}

/// Returns the seconds from `earlier` to `later`, both in RFC 3339 and UTC.
fn seconds_between(earlier: &Value, later: &Value) -> f64 {
    let time = |text: &Value| {
        let text = text.as_str().expect("a time");
        assert!(text.ends_with('Z'), "{text} is not in UTC");
        text.parse::<jiff::Timestamp>().expect("RFC 3339")
    };
    (time(later) - time(earlier)).as_secs_f64()
}

#[tokio::test]
async fn health_and_untouched_use_no_session() {
    let server = Server::start(&[]);
    let mut client = logged_in(&server, "alice").await;
    for path in ["/healthz", "/api/untouched"] {
        let answer = client.get(path).await;
        answer.is(json!({ "status": "ok" }));
        assert_eq!((answer.header("vary"), answer.set_cookie()), (None, None), "{path}");
    }
}

#[tokio::test]
async fn a_new_visitor_has_no_session_and_gets_no_cookie() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let answer = client.get("/api/session").await;
    answer.is(json!({ "present": false, "principal": null, "created": null, "last_active": null,
                      "expires": null, "keys": [] }));
    assert_eq!(answer.header("vary"), Some("Cookie"));
    assert_eq!(answer.set_cookie(), None);
    client.get("/api/active").await.is(json!({ "active": 0 }));
}

#[tokio::test]
async fn a_session_is_described_with_its_times_and_keys() {
    let server = Server::start(&[]);
    let mut client = logged_in(&server, "alice").await;
    client.put("/api/session/data/b", "1").await.done();
    client.put("/api/session/data/a", "2").await.done();
    let described = client.get("/api/session").await.json();
    assert_eq!(described["present"], true);
    assert_eq!(described["principal"], "alice");
    assert_eq!(described["keys"], json!(["a", "b"]));
    assert!((0.0..60.0).contains(&seconds_between(&described["created"], &described["last_active"])));
    // The builder's default idle timeout is 30 minutes.
    assert_eq!(seconds_between(&described["last_active"], &described["expires"]), 1800.0);
}

#[tokio::test]
async fn every_json_value_is_stored_unchanged() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let values = [
        "null",
        "true",
        "\"\"",
        "\"ümlaut \\u0000 \\\"q\\\"\"",
        "[]",
        "{}",
        "0",
        "-1",
        "9007199254740993",
        "18446744073709551615",
        "-9223372036854775808",
        "1.0",
        "0.1",
        "1.7976931348623157e308",
        "5e-324",
        "8.41e21",
        "{\"a\":[1,{\"b\":null}],\"c\":\"d\"}",
    ];
    for value in values {
        let put = client.put("/api/session/data/key", value).await;
        assert_eq!(put.status, 204, "{value}: {}", put.body);
        let got = client.get("/api/session/data/key").await;
        assert_eq!(got.header("content-type"), Some("application/json"));
        got.is(serde_json::from_str(value).unwrap());
    }
    client.put("/api/session/data/a%2Fb%20%C3%BC", "7").await.done();
    client.get("/api/session/data/a%2Fb%20%C3%BC").await.is(json!(7));
    assert_eq!(client.get("/api/session").await.json()["keys"], json!(["a/b ü", "key"]));
}

#[tokio::test]
async fn only_the_first_value_sets_a_cookie() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let first = client.put("/api/session/data/key", "1").await;
    first.done();
    let cookie = first.set_cookie().expect("a cookie");
    let (id, attributes) = cookie.split_once("; ").expect("attributes");
    assert_eq!(id.strip_prefix("__Host-id=").map(str::len), Some(43));
    assert_eq!(attributes, "Path=/; HttpOnly; SameSite=Lax; Secure");
    assert_eq!(first.header("cache-control"), Some("no-store"));
    assert_eq!(client.put("/api/session/data/key", "2").await.set_cookie(), None);
    client.get("/api/active").await.is(json!({ "active": 1 }));
}

#[tokio::test]
async fn a_missing_key_is_404_to_read_and_to_remove() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let nothing = "the session has no value under this key";
    client.get("/api/session/data/key").await.refused(404, nothing);
    client.delete("/api/session/data/key").await.refused(404, nothing);
    client.put("/api/session/data/key", "1").await.done();
    client.delete("/api/session/data/key").await.done();
    client.get("/api/session/data/key").await.refused(404, nothing);
    client.delete("/api/session/data/key").await.refused(404, nothing);
}

#[tokio::test]
async fn a_flush_empties_the_data_and_keeps_id_and_user() {
    let server = Server::start(&[]);
    let mut client = logged_in(&server, "alice").await;
    client.put("/api/session/data/key", "1").await.done();
    let answer = client.delete("/api/session/data").await;
    answer.done();
    assert_eq!(answer.set_cookie(), None);
    let described = client.get("/api/session").await.json();
    assert_eq!((&described["principal"], &described["keys"]), (&json!("alice"), &json!([])));
}

#[tokio::test]
async fn an_increment_answers_the_new_number_alone() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let path = "/api/session/data/n/increment";
    for expected in ["1", "2", "3"] {
        let answer = client.post(path, "").await;
        assert_eq!((answer.status, &*answer.body), (200, expected));
    }
    client.get("/api/session/data/n").await.is(json!(3));
    client.put("/api/session/data/n", "-1.5").await.done();
    assert_eq!(client.post(path, "").await.body, "-0.5");
}

#[tokio::test]
async fn a_value_that_cannot_be_incremented_stays_unchanged() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let path = "/api/session/data/n/increment";
    for value in ["\"5\"", "null", "true", "[1]", "{}"] {
        client.put("/api/session/data/n", value).await.done();
        client.post(path, "").await.refused(400, "the value under this key is not a number");
        client.get("/api/session/data/n").await.is(serde_json::from_str(value).unwrap());
    }
    client.put("/api/session/data/n", "18446744073709551615").await.done();
    client.post(path, "").await.refused(400, "the number is already the largest possible");
    assert_eq!(client.get("/api/session/data/n").await.body, "18446744073709551615");
}

#[tokio::test]
async fn regenerate_gives_a_new_id_and_ends_the_old_one() {
    let server = Server::start(&[]);
    let mut client = server.client();
    client.post("/api/session/regenerate", "").await.done();
    assert_eq!(client.cookie(), None, "there was no session to regenerate");

    client.put("/api/session/data/key", "1").await.done();
    let mut old = client.clone();
    client.post("/api/session/regenerate", "").await.done();
    assert_ne!(client.cookie(), old.cookie());
    client.get("/api/session/data/key").await.is(json!(1));
    assert_eq!(old.get("/api/session").await.json()["present"], false);
}

#[tokio::test]
async fn a_login_renews_the_id_and_a_logout_ends_the_session() {
    let server = Server::start(&[]);
    let mut client = server.client();
    client.put("/api/session/data/key", "1").await.done();
    let mut anonymous = client.clone();
    client.login("alice").await;
    assert_ne!(client.cookie(), anonymous.cookie());
    assert_eq!(anonymous.get("/api/session").await.json()["present"], false);
    client.get("/api/session/data/key").await.is(json!(1));

    let mut old = client.clone();
    let answer = client.post("/api/logout", "").await;
    answer.done();
    let removal = answer.set_cookie().expect("a removal cookie");
    assert!(removal.starts_with("__Host-id=; ") && removal.contains("Max-Age=0"), "{removal}");
    assert_eq!(client.cookie(), None);
    assert_eq!(old.get("/api/session").await.json()["present"], false);
    client.get("/api/active").await.is(json!({ "active": 0 }));
    client.post("/api/logout", "").await.done();
}

#[tokio::test]
async fn a_users_sessions_are_listed_and_ended_by_handle() {
    let server = Server::start(&[]);
    let (mut one, mut two) = (logged_in(&server, "alice").await, logged_in(&server, "alice").await);
    let mut other = logged_in(&server, "bob").await;
    let listed = one.get("/api/sessions").await;
    assert_eq!(listed.status, 200);
    let listed = listed.json();
    let listed = listed.as_array().expect("an array");
    assert_eq!(listed.len(), 2);
    let handle_where = |current: bool| {
        let found: Vec<_> = listed.iter().filter(|device| device["current"] == current).collect();
        assert_eq!(found.len(), 1);
        assert_eq!(seconds_between(&found[0]["last_active"], &found[0]["expires"]), 1800.0);
        assert!(seconds_between(&found[0]["created"], &found[0]["last_active"]) >= 0.0);
        found[0]["handle"].as_str().expect("a handle").to_owned()
    };
    let (own, others) = (handle_where(true), handle_where(false));
    for client in [&one, &two] {
        let id = client.cookie().and_then(|cookie| cookie.split_once('=')).expect("a cookie").1;
        assert!(![&own, &others].iter().any(|handle| id.contains(&***handle) || handle.contains(id)));
    }

    let unknown = "the user has no session with this handle";
    other.delete(&format!("/api/sessions/{own}")).await.refused(404, unknown);
    one.delete(&format!("/api/sessions/{others}")).await.done();
    assert_eq!(two.get("/api/session").await.json()["present"], false);
    one.delete(&format!("/api/sessions/{others}")).await.refused(404, unknown);
    one.delete(&format!("/api/sessions/{own}")).await.done();
    assert_eq!(one.cookie(), None, "ending this session is a logout");
    other.get("/api/active").await.is(json!({ "active": 1 }));
}

#[tokio::test]
async fn all_other_sessions_of_a_user_are_ended_and_counted() {
    let server = Server::start(&[]);
    let mut one = logged_in(&server, "alice").await;
    let (mut two, mut three) = (logged_in(&server, "alice").await, logged_in(&server, "alice").await);
    let mut other = logged_in(&server, "bob").await;
    one.delete("/api/sessions").await.is(json!({ "ended": 2 }));
    one.delete("/api/sessions").await.is(json!({ "ended": 0 }));
    for (client, alive) in [(&mut one, true), (&mut two, false), (&mut three, false), (&mut other, true)] {
        assert_eq!(client.get("/api/session").await.json()["present"], alive);
    }
}

#[tokio::test]
async fn without_a_login_no_sessions_are_listed_or_ended() {
    let server = Server::start(&[]);
    let mut client = server.client();
    client.put("/api/session/data/key", "1").await.done();
    client.get("/api/sessions").await.refused(401, "not logged in; call POST /api/login first");
    client.delete("/api/sessions").await.refused(401, "not logged in; call POST /api/login first");
    client.delete("/api/sessions/abc").await.refused(401, "not logged in; call POST /api/login first");
}

#[tokio::test]
async fn a_failing_handler_stores_nothing_and_sets_no_cookie() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let answer = client.post("/api/fail", "").await;
    answer.refused(500, "failed on request");
    assert_eq!(answer.set_cookie(), None);
    client.login("alice").await;
    client.post("/api/fail", "").await.refused(500, "failed on request");
    assert_eq!(client.get("/api/session").await.json()["keys"], json!([]));
    client.get("/api/active").await.is(json!({ "active": 1 }));
}

#[tokio::test]
async fn bad_input_is_400_and_changes_nothing() {
    let server = Server::start(&[]);
    let mut client = logged_in(&server, "alice").await;
    for body in ["", "{", "[1,]", "tea", "1 2", "{\"a\":1e999}", "\"\u{1}\""] {
        let answer = client.put("/api/session/data/key", body).await;
        assert_eq!(answer.status, 400, "{body:?}: {}", answer.body);
        let error = answer.json()["error"].as_str().expect("a text").to_owned();
        assert!(error.starts_with("the body is not the expected JSON: "), "{error}");
    }
    for body in ["", "{}", "[]", "{\"user\":5}", "{\"user\":null}"] {
        let answer = client.post("/api/login", body).await;
        assert_eq!(answer.status, 400, "{body:?}: {}", answer.body);
    }
    let length = "expected a user of 1 to 256 bytes, found another length";
    client.post("/api/login", "{\"user\":\"\"}").await.refused(400, length);
    client.post("/api/login", &json!({ "user": "x".repeat(257) }).to_string()).await.refused(400, length);
    client
        .get("/api/session/data/%FF")
        .await
        .refused(400, "expected a path in percent-encoded UTF-8, found other bytes");
    let described = client.get("/api/session").await.json();
    assert_eq!((&described["principal"], &described["keys"]), (&json!("alice"), &json!([])));
}

#[tokio::test]
async fn a_value_too_large_is_413_and_the_old_one_stays() {
    let server = Server::start(&[]);
    let mut client = logged_in(&server, "alice").await;
    client.put("/api/session/data/key", "1").await.done();
    let over =
        |answer: &Answer| answer.refused(413, "the session would exceed a size limit; nothing was stored");
    over(&client.put("/api/session/data/key", &format!("\"{}\"", "x".repeat(65_536))).await);
    over(&client.put("/api/session/data/key", &format!("{}{}", "[".repeat(33), "]".repeat(33))).await);
    let million = format!("\"{}\"", "x".repeat(1 << 20));
    client.put("/api/session/data/key", &million).await.refused(413, "the body is larger than 1 MiB");
    client.get("/api/session/data/key").await.is(json!(1));

    client.put("/api/session/data/key", &format!("{}{}", "[".repeat(32), "]".repeat(32))).await.done();
    for n in 1..1024 {
        client.put(&format!("/api/session/data/{n}"), "1").await.done();
    }
    over(&client.put("/api/session/data/another", "1").await);
}

#[tokio::test]
async fn other_paths_are_404_and_other_methods_405() {
    let server = Server::start(&[]);
    let mut client = server.client();
    for path in ["/api", "/api/", "/api/nope", "/api/session/data/a/b", "/api/session/data/"] {
        client.get(path).await.refused(404, "the API has no such path");
    }
    let method = "this path does not take this method";
    let answer = client.post("/api/session", "").await;
    answer.refused(405, method);
    assert_eq!(answer.header("allow"), Some("GET,HEAD"));
    client.get("/api/login").await.refused(405, method);
    client.post("/api/sessions", "").await.refused(405, method);
    client.get("/api/session/data").await.refused(405, method);
}

#[tokio::test]
async fn every_path_pauses_as_long_as_requested() {
    let server = Server::start(&[]);
    let mut client = logged_in(&server, "alice").await;
    client.put("/api/session/data/key", "1").await.done();
    let requests = [
        (Method::GET, "/healthz", 200),
        (Method::GET, "/api/untouched", 200),
        (Method::GET, "/api/session", 200),
        (Method::GET, "/api/session/data/key", 200),
        (Method::PUT, "/api/session/data/key", 204),
        (Method::POST, "/api/session/data/key/increment", 200),
        (Method::DELETE, "/api/session/data/key", 204),
        (Method::DELETE, "/api/session/data", 204),
        (Method::POST, "/api/session/regenerate", 204),
        (Method::POST, "/api/login", 204),
        (Method::GET, "/api/sessions", 200),
        (Method::DELETE, "/api/sessions/unknown", 404),
        (Method::DELETE, "/api/sessions", 200),
        (Method::GET, "/api/active", 200),
        (Method::POST, "/api/fail", 500),
        (Method::POST, "/api/logout", 204),
    ];
    for (method, path, status) in requests {
        let body = if path == "/api/login" { "{\"user\":\"alice\"}" } else { "1" };
        let start = Instant::now();
        let answer = client.send(method.clone(), &format!("{path}?delay=60"), &[], body).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
        assert!(start.elapsed() >= Duration::from_millis(60), "{method} {path}");
    }
}

#[tokio::test]
async fn a_bad_delay_is_400() {
    let server = Server::start(&[]);
    let mut client = server.client();
    for path in ["/healthz", "/api/untouched", "/api/session", "/api/active"] {
        for delay in ["x", "-1", "1.5", "60001", "", "99999999999999999999"] {
            let answer = client.get(&format!("{path}?delay={delay}")).await;
            answer.refused(400, "expected ?delay= as 0 to 60000 milliseconds");
        }
    }
    assert_eq!(client.get("/api/session?delay=0&other=1").await.status, 200);
}

#[tokio::test]
async fn the_pause_lies_between_load_and_change() {
    let server = Server::start(&[]);
    let mut client = logged_in(&server, "alice").await;
    client.put("/api/session/data/key", "\"old\"").await.done();
    let mut slow = client.clone();
    let reading = tokio::spawn(async move { slow.get("/api/session/data/key?delay=300").await });
    server.paused(1).await;
    client.put("/api/session/data/key", "\"new\"").await.done();
    reading.await.unwrap().is(json!("old"));

    let mut slow = client.clone();
    let writing = tokio::spawn(async move { slow.put("/api/session/data/key?delay=300", "\"slow\"").await });
    server.paused(2).await;
    client.get("/api/session/data/key").await.is(json!("new"));
    writing.await.unwrap().done();
    client.get("/api/session/data/key").await.is(json!("slow"));
}

#[tokio::test]
async fn a_change_to_an_ended_session_is_409_and_a_read_passes() {
    let server = Server::start(&[]);
    let mut client = logged_in(&server, "alice").await;
    let requests = [
        (Method::PUT, "/api/session/data/key", 409),
        (Method::POST, "/api/session/data/key/increment", 409),
        (Method::DELETE, "/api/session/data", 409),
        (Method::POST, "/api/session/regenerate", 409),
        (Method::GET, "/api/session", 200),
    ];
    let mut answers = Vec::new();
    for (method, path, status) in requests {
        let mut slow = client.clone();
        let path = format!("{path}?delay=500");
        let task = tokio::spawn(async move { slow.send(method, &path, &[], "1").await });
        answers.push((task, status));
    }
    server.paused(answers.len()).await;
    client.post("/api/logout", "").await.done();
    for (answer, status) in answers {
        let answer = answer.await.unwrap();
        match status {
            409 => answer.refused(409, "the session has ended; log in again"),
            _ => assert_eq!(answer.status, status),
        }
        assert_eq!(answer.set_cookie(), None);
    }
    client.get("/api/active").await.is(json!({ "active": 0 }));
}

#[tokio::test]
async fn requests_from_another_sites_page_are_refused() {
    let server = Server::start(&[]);
    let mut client = logged_in(&server, "alice").await;
    let foreign = [("sec-fetch-site", "cross-site")];
    let answer = client.send(Method::POST, "/api/logout", &foreign, "").await;
    answer.refused(403, "another site sent this request");
    // A default port is the same as none, as in the library's own rule.
    for (origin, status) in
        [("https://shop.example:443", 204), ("https://shop.example:8443", 403), ("https://evil.example", 403)]
    {
        let headers = [("host", "shop.example"), ("origin", origin)];
        let answer = client.send(Method::PUT, "/api/session/data/key", &headers, "1").await;
        assert_eq!(answer.status, status, "{origin}: {}", answer.body);
    }
    assert_eq!(client.send(Method::GET, "/api/session", &foreign, "").await.json()["present"], true);
}
