//! axum_session.

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use axum_session::{Key, SessionConfig, SessionLayer, SessionStore};
use axum_session_redispool::{SessionRedisPool, SessionRedisSession};
use redis_pool::RedisPool;
use tower::ServiceExt;

use crate::{Redis, Sample, answer_to, secret, values};

const AGENT: &str = "Mozilla/5.0 (sample)";

async fn fill(session: SessionRedisSession) {
    for (key, value) in values() {
        session.set(key, value);
    }
}

async fn fill_long(session: SessionRedisSession) {
    fill(session.clone()).await;
    session.set_longterm(true);
}

async fn sample(redis: &Redis, case: &'static str, config: SessionConfig) -> Sample {
    let client = redis::Client::open(redis.url()).expect("a URL");
    let pool = SessionRedisPool::from(RedisPool::from(client));
    let config = config.with_always_save(true);
    let store = SessionStore::<SessionRedisPool>::new(Some(pool), config).await.expect("a store");
    let router =
        Router::new().route("/", get(fill)).route("/long", get(fill_long)).layer(SessionLayer::new(store));
    let path = if case == "long" { "/long" } else { "/" };
    let request = axum::http::Request::get(path).header("user-agent", AGENT).body(Body::empty());
    let response = router.oneshot(request.expect("a request")).await.expect("a response");
    let cookie = answer_to(response.headers().get_all("set-cookie").iter().map(|value| value.as_bytes()));
    let headers = vec![("user-agent", AGENT)];
    Sample { peer: "axum_session", case, cookie, headers, redis: redis.take().await }
}

pub async fn samples(redis: &Redis) -> Vec<Sample> {
    let config = SessionConfig::default;
    let key = || Key::from(&secret());
    vec![
        sample(redis, "plain", config()).await,
        sample(redis, "signed", config().with_key(key())).await,
        sample(redis, "unbound", config().with_key(key()).with_ip_and_user_agent(false)).await,
        sample(redis, "encrypted", config().with_database_key(key())).await,
        sample(redis, "long", config()).await,
    ]
}
