//! A full disk: the tables are in a tablespace on a small disk of the server's own.

use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use cloakroom::testkit::record;
use cloakroom::{
    Clock, ErrorKind, Manager, PostgresProvider, Principal, Provider, Session, SessionLayer,
    providers::{Created, StoreKey},
};
use http::Request;
use http::header::{COOKIE, SET_COOKIE};
use http_body_util::BodyExt;
use servers::{Postgres, PostgresOptions};
use tower::ServiceExt;

/// Longer than any wait here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
const MIB: u32 = 16;
/// The bytes of a session's value.
const LARGE: usize = 40_000;

/// A server whose database is on a small disk, with a table that takes part of it.
fn small_server() -> Postgres {
    let server = Postgres::with(PostgresOptions { small_disk: Some(MIB), ..PostgresOptions::default() });
    server.sql(&format!("CREATE TABLESPACE small LOCATION '{}'", server.small_disk().display()));
    server.sql(&format!("GRANT CREATE ON TABLESPACE small TO {}", Postgres::USER));
    server.sql(
        "CREATE TABLE ballast TABLESPACE small AS SELECT repeat('x', 1000) FROM generate_series(1, 4000)",
    );
    server.sql(&format!("ALTER ROLE {} SET default_tablespace = small", Postgres::USER));
    server
}

async fn provider(server: &Postgres) -> PostgresProvider {
    let builder = PostgresProvider::builder(server.url("")).deadline(PATIENCE);
    builder.connect_timeout(PATIENCE).connect().await.unwrap()
}

fn site(provider: PostgresProvider) -> Router {
    let login = async |session: Session| -> cloakroom::Result<()> {
        session.authenticate(Principal::new("alice")?)?;
        session.set("large", "x".repeat(LARGE))
    };
    let read = async |session: Session| -> cloakroom::Result<String> {
        Ok(session.get::<String>("large")?.map_or(0, |value| value.len()).to_string())
    };
    let manager = Manager::builder(provider).deadline(PATIENCE).build().unwrap();
    Router::new()
        .route("/login", get(login))
        .route("/read", get(read))
        .route("/logout", get(async |session: Session| session.destroy()))
        .layer(SessionLayer::new(manager))
}

/// Returns the status, the body, and the cookie that was set.
async fn ask(site: &Router, path: &str, cookie: &str) -> (u16, String, Option<String>) {
    let request = Request::get(path).header(COOKIE, cookie).body(Body::empty()).unwrap();
    let response = site.clone().oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let set = response.headers().get(SET_COOKIE).map(|cookie| cookie.to_str().unwrap().to_owned());
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let cookie = set.map(|cookie| cookie.split(';').next().unwrap().to_owned());
    (status, String::from_utf8_lossy(&body).into_owned(), cookie)
}

/// Creates sessions of one size until the server refuses one. Returns the keys of those that were acknowledged.
async fn fill(provider: &PostgresProvider, name: &str, bytes: usize) -> Vec<StoreKey> {
    let stored = record(&Clock::system()).principal("bob").filled(bytes).build();
    let mut keys = Vec::new();
    loop {
        let key: StoreKey = format!("{name}-{}", keys.len()).parse().unwrap();
        match provider.create(&key, &stored).await {
            Ok(created) => assert_eq!(created, Created::Done),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                assert!(error.to_string().contains("disk or memory is full (53100)"), "{error}");
                return keys;
            }
        }
        keys.push(key);
        assert!(keys.len() < 100_000, "the disk is small");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs postgres: cargo xtask test"]
async fn a_full_disk_ends_sessions_and_begins_none() {
    let server = small_server();
    let (provider, other) = (provider(&server).await, provider(&server).await);
    let (site, there) = (site(provider.clone()), site(other));
    let mut kept = Vec::new();
    for name in ["first", "second", "third"] {
        let (key, stored) = (name.parse().unwrap(), record(&Clock::system()).filled(LARGE).build());
        assert_eq!(provider.create(&key, &stored).await.unwrap(), Created::Done);
        kept.push(key);
    }
    let mut cookies = Vec::new();
    let (status, body, set) = loop {
        let answer = ask(&site, "/login", "").await;
        match answer.2 {
            Some(cookie) => cookies.push(cookie),
            None => break answer,
        }
        assert!(cookies.len() < 1_000, "the disk is small");
    };
    assert_eq!((status, set), (503, None), "{body}");
    assert!(cookies.len() > 20, "{}", cookies.len());
    kept.extend(fill(&provider, "large", LARGE).await);
    kept.extend(fill(&provider, "small", 10).await);
    for key in &kept {
        assert!(provider.load(key).await.unwrap().is_some(), "it was acknowledged");
    }
    for cookie in &cookies {
        for site in [&site, &there] {
            let (status, body, _) = ask(site, "/read", cookie).await;
            assert_eq!((status, body), (200, LARGE.to_string()), "it was acknowledged");
        }
    }
    assert_eq!(ask(&site, "/login", "").await.0, 503);

    // A logout needs no room: it deletes what it cannot overwrite.
    let (ended, alive) = cookies.split_at(cookies.len() / 2);
    for cookie in ended {
        let (status, body, _) = ask(&site, "/logout", cookie).await;
        assert_eq!(status, 200, "{body}");
        for site in [&site, &there] {
            assert_eq!(ask(site, "/read", cookie).await.1, "0", "it has ended");
        }
    }
    assert!(provider.delete(&kept[0]).await.unwrap());

    // With room again, the same provider stores sessions. The sessions from before are there.
    server.sql("DROP TABLE ballast");
    let start = Instant::now();
    let cookie = loop {
        match ask(&site, "/login", "").await {
            (_, _, Some(cookie)) => break cookie,
            (status, body, None) => assert_eq!(status, 503, "{body}"),
        }
        assert!(start.elapsed() < PATIENCE, "there is room");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    for cookie in alive.iter().chain([&cookie]) {
        assert_eq!(ask(&there, "/read", cookie).await.1, LARGE.to_string());
    }
    for cookie in ended {
        assert_eq!(ask(&there, "/read", cookie).await.1, "0", "and stays ended");
    }
}
