//! The four routes in axum under every library's layer, written as that library's documentation does.

use std::hint::black_box;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use http::{Request, StatusCode};
use tower::{Layer, Service};

use crate::subject::{Places, Subject};

/// Returns the routes of `subject`, which must run on axum.
pub async fn router(subject: Subject, places: &Places) -> Router {
    match subject {
        Subject::Cloakroom => cloakroom_routes(cloakroom::MemoryProvider::new()),
        Subject::CloakroomFile => {
            let folder = places.folder.join("cloakroom");
            cloakroom_routes(cloakroom::FileProvider::connect(folder).expect("the folder can be made"))
        }
        Subject::CloakroomRedis => cloakroom_routes(cloakroom_redis(places).await),
        Subject::CloakroomNear => {
            let near = cloakroom::Cached::builder(cloakroom_redis(places).await).watching().await;
            cloakroom_routes(near.expect("the server sends invalidations"))
        }
        Subject::CloakroomMysql => {
            let provider = cloakroom::MySqlProvider::builder(&places.mysql);
            cloakroom_routes(provider.create_table(true).connect().await.expect("the server answers"))
        }
        Subject::CloakroomPostgres => {
            let provider = cloakroom::PostgresProvider::connect(&places.postgres).await;
            cloakroom_routes(provider.expect("the server answers"))
        }
        Subject::CloakroomSqlite => {
            let path = places.folder.join("cloakroom-sqlite").join("sessions.db");
            let provider = cloakroom::SqliteProvider::connect(path).await;
            cloakroom_routes(provider.expect("the database can be made"))
        }
        Subject::TowerSessions => tower_routes(tower_sessions::MemoryStore::default()),
        Subject::TowerSessionsMoka => {
            tower_14_routes(tower_sessions_moka_store::MokaStore::new(Some(10_000_000)))
        }
        Subject::TowerSessionsRedis => tower_14_routes(redis(places).await),
        Subject::AxumSession => axum_session_routes::<axum_session::SessionNullPool>(None).await,
        Subject::AxumSessionRedis => {
            let client = redis::Client::open(places.redis.as_str()).expect("the address is one");
            let pool = redis_pool::RedisPool::from(client);
            axum_session_routes::<axum_session_redispool::SessionRedisPool>(Some(pool.into())).await
        }
        Subject::Axum => bare_routes(),
        Subject::TowerSessionsMysql
        | Subject::TowerSessionsPostgres
        | Subject::TowerSessionsSqlite
        | Subject::Actix
        | Subject::ActixSessionCookie
        | Subject::ActixSessionRedis => {
            unreachable!("{subject:?} is not served by this program on axum")
        }
    }
}

async fn cloakroom_redis(places: &Places) -> cloakroom::RedisProvider {
    cloakroom::RedisProvider::connect(&places.redis).await.expect("the server answers")
}

fn bare_routes() -> Router {
    Router::new()
        .route("/untouched", get(async || "hello"))
        .route("/read", get(async || black_box(1_u64).to_string()))
        .route("/change", get(async || black_box(1_u64).to_string()))
        .route("/first", get(async || black_box(1_u64).to_string()))
        .layer(Nothing)
}

pub fn cloakroom_routes(provider: impl cloakroom::Provider) -> Router {
    use cloakroom::{Manager, Session, SessionLayer};
    type Answer = cloakroom::Result<String>;
    let sessions = Manager::builder(provider).build().expect("the defaults work together");
    Router::new()
        .route("/untouched", get(async || "hello"))
        .route(
            "/read",
            get(async |session: Session| Answer::Ok(session.get::<u64>("n")?.unwrap_or(0).to_string())),
        )
        .route(
            "/change",
            get(async |session: Session| {
                let n = session.get::<u64>("n")?.unwrap_or(0) + 1;
                session.set("n", n)?;
                Answer::Ok(n.to_string())
            }),
        )
        .route(
            "/first",
            get(async |session: Session| {
                session.set("n", 1_u64)?;
                Answer::Ok(1.to_string())
            }),
        )
        .layer(SessionLayer::new(sessions))
}

/// Defines the routes for one version. Both versions have the same interface, but no trait in common.
macro_rules! tower_sessions_routes {
    ($name:ident, $version:ident) => {
        fn $name(store: impl $version::SessionStore + Clone) -> Router {
            use $version::{Session, SessionManagerLayer};
            let failed = |_: $version::session::Error| StatusCode::INTERNAL_SERVER_ERROR;
            Router::new()
                .route("/untouched", get(async || "hello"))
                .route(
                    "/read",
                    get(async move |session: Session| {
                        let n = session.get::<u64>("n").await.map_err(failed)?;
                        Ok::<_, StatusCode>(n.unwrap_or(0).to_string())
                    }),
                )
                .route(
                    "/change",
                    get(async move |session: Session| {
                        let n = session.get::<u64>("n").await.map_err(failed)?.unwrap_or(0) + 1;
                        session.insert("n", n).await.map_err(failed)?;
                        Ok::<_, StatusCode>(n.to_string())
                    }),
                )
                .route(
                    "/first",
                    get(async move |session: Session| {
                        session.insert("n", 1_u64).await.map_err(failed)?;
                        Ok::<_, StatusCode>(1.to_string())
                    }),
                )
                .layer(SessionManagerLayer::new(store))
        }
    };
}

tower_sessions_routes!(tower_routes, tower_sessions);
tower_sessions_routes!(tower_14_routes, tower_sessions_14);

/// Opens a pool of six connections, as the store's own example does.
pub async fn redis(
    places: &Places,
) -> tower_sessions_redis_store::RedisStore<tower_sessions_redis_store::fred::prelude::Pool> {
    use tower_sessions_redis_store::fred::prelude::*;
    let config = Config::from_url(&places.redis).expect("the address is one");
    let pool = Pool::new(config, None, None, None, 6).expect("six connections are a pool");
    let _connections = pool.connect();
    pool.wait_for_connect().await.expect("the server answers");
    tower_sessions_redis_store::RedisStore::new(pool)
}

async fn axum_session_routes<P>(pool: Option<P>) -> Router
where
    P: axum_session::DatabasePool + Clone + std::fmt::Debug + Send + Sync + 'static,
{
    use axum_session::{Session, SessionConfig, SessionLayer, SessionStore};
    let store =
        SessionStore::<P>::new(pool, SessionConfig::default()).await.expect("the defaults work together");
    Router::new()
        .route("/untouched", get(async || "hello"))
        .route("/read", get(async |session: Session<P>| session.get::<u64>("n").unwrap_or(0).to_string()))
        .route(
            "/change",
            get(async |session: Session<P>| {
                let n = session.get::<u64>("n").unwrap_or(0) + 1;
                session.set("n", n);
                n.to_string()
            }),
        )
        .route(
            "/first",
            get(async |session: Session<P>| {
                session.set("n", 1_u64);
                1.to_string()
            }),
        )
        .layer(SessionLayer::new(store))
}

/// A layer that does nothing. axum boxes the service and its future under any layer, so the bare routes need one too.
#[derive(Clone)]
struct Nothing;

impl<S> Layer<S> for Nothing {
    type Service = NothingService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        NothingService(inner)
    }
}

#[derive(Clone)]
struct NothingService<S>(S);

impl<S: Service<Request<Body>>> Service<Request<Body>> for NothingService<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> S::Future {
        self.0.call(request)
    }
}
