//! Beego's `mysql` provider, on a real server.

use std::sync::LazyLock;

use cloakroom::{ErrorKind, Manager, ManualClock, MySqlProvider, providers::AnyProvider};
use serde_json::Value;
use servers::MariaDb;

use super::layout::{self, Layout};
use super::sql::{self, BeegoServer, Table};
use super::{HOUR, PATIENCE, noon, release, request};

static SERVER: LazyLock<MariaDb> = LazyLock::new(MariaDb::start);

impl BeegoServer for MariaDb {
    const NAME: &str = "mysql";
    const DATA: &str = "CONCAT('x', HEX(session_data))";
    const SAVED: &str = "session_expiry";

    fn start() -> Self {
        MariaDb::start()
    }

    fn sql(&self, statements: &str) -> String {
        self.sql(statements)
    }

    fn url(&self) -> String {
        self.dsn("")
    }

    fn quoted(name: &str) -> String {
        format!("`{name}`")
    }

    fn creation(ddl: &str, name: &str) -> String {
        ddl.replace("`session`", &Self::quoted(name))
    }

    fn bytes(hex: &str) -> String {
        format!("x'{hex}'")
    }

    fn time(seconds: u64) -> String {
        seconds.to_string()
    }

    fn key(row: &Value) -> &str {
        row["key"].as_str().unwrap()
    }

    async fn provider(&self, table: &str, time: &ManualClock) -> AnyProvider {
        let builder = MySqlProvider::builder(self.url()).table(table).clock(time.clock());
        builder.deadline(PATIENCE).connect_beego(HOUR).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn mysql_passes_every_case_of_the_layout() {
    layout::every_case(&Table::new(&*SERVER, "every_case")).await;
}

#[cfg(all(feature = "postgres", feature = "sqlite"))]
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs mariadbd and postgres: cargo xtask test"]
async fn sessions_in_mysql_move_to_sqlite_and_postgres() {
    super::stores::move_to_sqlite_and_postgres(&Table::new(&*SERVER, "to_other_stores")).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn captured_rows_are_read_and_written_in_their_layout() {
    sql::captured_rows_are_read_and_written_in_their_layout(&*SERVER).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn a_session_larger_than_the_blob_is_refused_unsent() {
    let table = Table::new(&*SERVER, "too_large");
    let time = ManualClock::starting_at(noon());
    let manager = Manager::builder(table.provider(&time).await)
        .cookie_name(super::COOKIE_NAME)
        .codec(cloakroom::config::Codec::GOB)
        .idle_timeout(HOUR)
        .absolute_timeout(None)
        .danger_store_ids_in_clear()
        .max_bytes(1 << 20)
        .clock(time.clock())
        .build()
        .unwrap();
    let session = request(&manager, "").await;
    session.set("n", 1).unwrap();
    let id = release(&session).await.1.unwrap();
    let before = table.value(&id).await.unwrap();
    let session = request(&manager, &id).await;
    session.set("big", "x".repeat(70_000)).unwrap();
    let error = session.release(&mut http::HeaderMap::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert_eq!(table.value(&id).await.unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn keys_that_the_column_considers_equal_are_distinct() {
    let table = Table::new(&*SERVER, "collation");
    let time = ManualClock::starting_at(noon());
    let manager = layout::manager(&table, &time).await;
    let id = "ab".repeat(16);
    table.put(&id.to_uppercase(), b"", noon()).await;
    assert!(request(&manager, &id).await.id().is_none(), "the column says that they are one key");
    let missing = MySqlProvider::builder(SERVER.url()).table("nobody");
    let error = missing.connect_beego(HOUR).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("expected Beego's table"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn beego_rows_are_moved_to_native_sessions_once() {
    sql::beego_rows_are_moved_to_native_sessions_once::<MariaDb>().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn any_table_name_works_and_foreign_rows_are_ignored() {
    sql::any_table_name_works_and_foreign_rows_are_ignored(&*SERVER).await;
}
