//! tower-sessions on its SQL stores: prints its port and serves until it is killed. `cloakroom-bench-peers` starts it.

use std::path::PathBuf;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use clap::{Parser, ValueEnum};
use tower_sessions::{ExpiredDeletion as _, Session, SessionManagerLayer, SessionStore};
use tower_sessions_sqlx_store::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool};
use tower_sessions_sqlx_store::sqlx::{MySqlPool, PgPool};
use tower_sessions_sqlx_store::{MySqlStore, PostgresStore, SqliteStore};

#[derive(Parser)]
struct Arguments {
    store: Store,
    /// The folder of the SQLite database, or the URL of the server
    place: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum Store {
    Mysql,
    Postgres,
    Sqlite,
}

fn main() {
    // The kernel kills this process when the measuring program ends for any reason.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    let Arguments { store, place } = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime can be built").block_on(async {
        let router = match store {
            Store::Mysql => routes(mysql(&place).await),
            Store::Postgres => routes(postgres(&place).await),
            Store::Sqlite => routes(sqlite(place.into()).await),
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        println!("{}", listener.local_addr().expect("an address").port());
        axum::serve(listener, router).await.expect("the server runs until it is killed");
    });
}

async fn mysql(url: &str) -> MySqlStore {
    let pool = MySqlPool::connect(url).await.expect("the server answers");
    // The store's own schema name needs more rights than an application's user has.
    let store = MySqlStore::new(pool).with_schema_name("app").expect("a schema's name");
    store.migrate().await.expect("the table can be made");
    store
}

async fn postgres(url: &str) -> PostgresStore {
    let store = PostgresStore::new(PgPool::connect(url).await.expect("the server answers"));
    store.migrate().await.expect("the table can be made");
    store
}

async fn sqlite(folder: PathBuf) -> SqliteStore {
    let options = SqliteConnectOptions::new().filename(folder.join("peer.sqlite")).create_if_missing(true);
    // Write-ahead logging is the usual setting for a server.
    let options = options.journal_mode(SqliteJournalMode::Wal);
    let store = SqliteStore::new(SqlitePool::connect_with(options).await.expect("the database can be made"));
    store.migrate().await.expect("the table can be made");
    let _ = store.delete_expired().await;
    store
}

/// Returns the routes that every subject serves, written as the library's documentation does.
fn routes(store: impl SessionStore + Clone) -> Router {
    let failed = |_: tower_sessions::session::Error| StatusCode::INTERNAL_SERVER_ERROR;
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
