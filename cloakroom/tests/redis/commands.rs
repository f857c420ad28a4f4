//! The commands that each kind of request sends, read from the server's `MONITOR`.

use cloakroom::{Manager, Principal, RedisProvider};
use http::HeaderMap;
use http::header::{COOKIE, HeaderValue, SET_COOKIE};
use servers::{Monitor, Redis};

/// A manager on a server that no other client uses.
struct Site {
    redis: Redis,
    manager: Manager,
}

impl Site {
    async fn open() -> Site {
        let redis = Redis::start();
        let provider = RedisProvider::connect(redis.url()).await.unwrap();
        let site = Site { redis, manager: Manager::builder(provider).build().unwrap() };
        // These visits load every script into the server.
        let cookie = site.visit("", Visit::Set).await.unwrap();
        let cookie = site.visit(&cookie, Visit::Login).await.unwrap();
        let cookie = site.visit(&cookie, Visit::Regenerate).await.unwrap();
        site.visit(&cookie, Visit::Set).await;
        site.visit(&cookie, Visit::Logout).await;
        assert_eq!(site.manager.sessions_of(&Principal::new("alice").unwrap()).await.unwrap().len(), 0);
        site
    }

    /// Makes a request with `cookie`, and returns the cookie of the response.
    async fn visit(&self, cookie: &str, visit: Visit) -> Option<String> {
        let mut headers = HeaderMap::new();
        if !cookie.is_empty() {
            headers.insert(COOKIE, HeaderValue::try_from(cookie).unwrap());
        }
        let session = self.manager.start(&headers).await.unwrap();
        match visit {
            Visit::Read => assert_eq!(session.get::<u64>("n").unwrap(), Some(7)),
            Visit::ReadNothing => assert_eq!(session.get::<u64>("n").unwrap(), None),
            Visit::Set => session.set("n", 7).unwrap(),
            Visit::Login => session.authenticate(Principal::new("alice").unwrap()).unwrap(),
            Visit::Regenerate => session.regenerate().unwrap(),
            Visit::Logout => session.destroy().unwrap(),
        }
        let mut answer = HeaderMap::new();
        let _ = session.release(&mut answer).await.unwrap();
        let cookie = answer.get(SET_COOKIE)?.to_str().unwrap().split(';').next().unwrap();
        Some(cookie.to_owned())
    }
}

#[derive(Clone, Copy)]
enum Visit {
    Read,
    ReadNothing,
    Set,
    Login,
    Regenerate,
    Logout,
}

/// Returns the commands sent since the last call.
fn sent(monitor: &mut Monitor<'_>) -> Vec<String> {
    monitor.names()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server: cargo xtask test"]
async fn each_request_sends_exactly_the_documented_commands() {
    let site = Site::open().await;
    let mut monitor = site.redis.monitor();

    let cookie = site.visit("", Visit::Set).await.unwrap();
    let _ = sent(&mut monitor);
    let headers = HeaderMap::from_iter([(COOKIE, HeaderValue::try_from(&cookie).unwrap())]);
    drop(site.manager.handle(&headers));
    assert_eq!(sent(&mut monitor), [""; 0], "a request that does not touch its session");
    site.visit("", Visit::ReadNothing).await;
    assert_eq!(sent(&mut monitor), [""; 0], "a new visitor who sets nothing");
    let cookie = site.visit("", Visit::Set).await.unwrap();
    assert_eq!(sent(&mut monitor), ["EVALSHA"], "a first visit that sets something");
    site.visit(&cookie, Visit::Read).await;
    assert_eq!(sent(&mut monitor), ["GET"], "a request that reads");
    site.visit(&cookie, Visit::Set).await;
    assert_eq!(sent(&mut monitor), ["GET", "EVALSHA"], "a request that changes something");
    let cookie = site.visit(&cookie, Visit::Login).await.unwrap();
    assert_eq!(sent(&mut monitor), ["GET", "EVALSHA"], "a login");
    let cookie = site.visit(&cookie, Visit::Regenerate).await.unwrap();
    assert_eq!(sent(&mut monitor), ["GET", "EVALSHA"], "a new id");
    site.visit(&cookie, Visit::Logout).await;
    assert_eq!(sent(&mut monitor), ["GET", "EVALSHA"], "a logout");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_count_and_a_list_send_one_command_each() {
    let site = Site::open().await;
    let cookie = site.visit("", Visit::Login).await.unwrap();
    // The first count loads the script into the server.
    assert_eq!(site.manager.active_sessions().await.unwrap(), 1);
    let mut monitor = site.redis.monitor();
    assert_eq!(site.manager.active_sessions().await.unwrap(), 1);
    assert_eq!(sent(&mut monitor), ["EVALSHA"]);
    assert_eq!(site.manager.sessions_of(&Principal::new("alice").unwrap()).await.unwrap().len(), 1);
    assert_eq!(sent(&mut monitor), ["EVALSHA"]);
    site.visit(&cookie, Visit::ReadNothing).await;
    for words in monitor.commands() {
        assert!(!words.iter().any(|word| word.eq_ignore_ascii_case("keys")), "{words:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_server_without_the_scripts_is_sent_their_text() {
    let site = Site::open().await;
    let cookie = site.visit("", Visit::Set).await.unwrap();
    site.redis.ask::<()>(&["SCRIPT", "FLUSH"]);
    let mut monitor = site.redis.monitor();
    site.visit(&cookie, Visit::Set).await;
    assert_eq!(sent(&mut monitor), ["GET", "EVALSHA", "EVAL"]);
    site.visit(&cookie, Visit::Set).await;
    assert_eq!(sent(&mut monitor), ["GET", "EVALSHA"]);
}
