//! tower-sessions and axum-login.

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use axum_login::{AuthManagerLayerBuilder, AuthSession, AuthUser, AuthnBackend, UserId};
use tower::ServiceExt;
use tower_sessions::cookie::Key;
use tower_sessions::{Expiry, Session, SessionManagerLayer};
use tower_sessions_redis_store::RedisStore;
use tower_sessions_redis_store::fred::prelude::{ClientLike, Config, Pool};

use crate::{Redis, Sample, answer_to, secret, values};

#[derive(Clone, Debug)]
struct User {
    id: i64,
    hash: Vec<u8>,
}

impl AuthUser for User {
    type Id = i64;

    fn id(&self) -> i64 {
        self.id
    }

    fn session_auth_hash(&self) -> &[u8] {
        &self.hash
    }
}

#[derive(Clone)]
struct Users;

impl AuthnBackend for Users {
    type User = User;
    type Credentials = ();
    type Error = std::convert::Infallible;

    async fn authenticate(&self, (): ()) -> Result<Option<User>, Self::Error> {
        Ok(Some(ann()))
    }

    async fn get_user(&self, _: &UserId<Self>) -> Result<Option<User>, Self::Error> {
        Ok(Some(ann()))
    }
}

fn ann() -> User {
    User { id: 4711, hash: b"hash of the password".to_vec() }
}

/// A time that the tests of the next century will reach.
fn expiry() -> Expiry {
    Expiry::AtDateTime(time::OffsetDateTime::from_unix_timestamp(4_922_000_000).expect("a time"))
}

async fn fill(session: Session) {
    for (key, value) in values() {
        session.insert(key, value).await.expect("a value");
    }
}

async fn login(mut auth: AuthSession<Users>) {
    fill(auth.session.clone()).await;
    auth.login(&ann()).await.expect("a login");
}

async fn sample(redis: &Redis, case: &'static str, router: Router) -> Sample {
    let request = axum::http::Request::get("/").body(Body::empty()).expect("a request");
    let response = router.oneshot(request).await.expect("a response");
    let cookie = answer_to(response.headers().get_all("set-cookie").iter().map(|value| value.as_bytes()));
    Sample { peer: "tower-sessions", case, cookie, headers: Vec::new(), redis: redis.take().await }
}

pub async fn samples(redis: &Redis) -> Vec<Sample> {
    let pool =
        Pool::new(Config::from_url(&redis.url()).expect("a URL"), None, None, None, 1).expect("a pool");
    pool.connect();
    pool.wait_for_connect().await.expect("a connection");
    let layer = || SessionManagerLayer::new(RedisStore::new(pool.clone())).with_expiry(expiry());
    let key = || Key::from(&secret());
    let filled = || Router::new().route("/", get(fill));
    let mut samples = vec![
        sample(redis, "plain", filled().layer(layer())).await,
        sample(redis, "signed", filled().layer(layer().with_signed(key()))).await,
        sample(redis, "private", filled().layer(layer().with_private(key()))).await,
        sample(redis, "derived", filled().layer(layer().with_signed(Key::derive_from(&secret()[..32]))))
            .await,
    ];
    let auth = AuthManagerLayerBuilder::new(Users, layer()).build();
    samples.push(sample(redis, "login", Router::new().route("/", get(login)).layer(auth)).await);
    samples
}
