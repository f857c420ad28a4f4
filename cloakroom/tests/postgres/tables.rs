//! Existing tables: the accepted forms, and the errors of the others.

use cloakroom::testkit::record;
use cloakroom::{Clock, ErrorKind, Manager, PostgresProvider, Provider, providers::Created};
use servers::Postgres;

use crate::server::{a_table, schema, shared, url_with};
use crate::sql::tables::{self, SchemaSql, changed, opened};

impl SchemaSql for Postgres {
    fn creation(table: &str) -> String {
        format!("SET ROLE {}; {}", Postgres::USER, schema(table))
    }
}

#[tokio::test]
#[ignore = "needs postgres: cargo xtask test"]
async fn a_table_is_refused_until_the_named_fix_is_run() {
    let changes = [
        ("ALTER TABLE {t} DROP CONSTRAINT {t}_pkey", "no primary key on id"),
        (
            "ALTER TABLE {t} DROP CONSTRAINT {t}_pkey; ALTER TABLE {t} ADD n serial PRIMARY KEY",
            "no primary key on id",
        ),
        (
            "ALTER TABLE {t} DROP CONSTRAINT {t}_pkey; CREATE UNIQUE INDEX ON {t} (id) WHERE tombstone",
            "no primary key on id",
        ),
        ("DROP INDEX {t}_due", "no index on due"),
        ("ALTER TABLE {t} ADD CONSTRAINT once UNIQUE (version)", "the unique index once on version"),
        ("ALTER TABLE {t}_index DROP CONSTRAINT {t}_index_pkey", "no primary key on kind, value, id"),
        ("DROP INDEX {t}_ids", "no index on id"),
        (
            "ALTER TABLE {t}_index ADD CONSTRAINT once_i UNIQUE (kind, value)",
            "the unique index once_i on kind, value",
        ),
        ("ALTER TABLE {t}_index ALTER value TYPE text USING ''", "value of type text and not bytea"),
        ("ALTER TABLE {t} ADD tenant int NOT NULL", "the column tenant that is NOT NULL and has no default"),
        ("ALTER TABLE {t} ALTER touched SET NOT NULL", "touched that does not allow NULL"),
        ("ALTER TABLE {t} ALTER id TYPE varchar(192)", "id of type character varying(192)"),
        (
            "ALTER TABLE {t} ALTER id TYPE text COLLATE \"POSIX\"; ALTER TABLE {t} ALTER id TYPE text COLLATE \"ucs_basic\"",
            "the collation ucs_basic",
        ),
        ("ALTER TABLE {t} ALTER expires TYPE int", "expires of type integer"),
        ("ALTER TABLE {t} ALTER record TYPE text USING ''", "record of type text"),
    ];
    tables::a_table_is_refused_until_the_named_fix_is_run(shared(), &changes).await;
}

#[tokio::test]
#[ignore = "needs postgres: cargo xtask test"]
async fn what_is_no_plain_table_is_refused() {
    for (make, found) in [
        ("CREATE VIEW {t} AS SELECT * FROM {w}", "a view"),
        ("CREATE MATERIALIZED VIEW {t} AS SELECT * FROM {w}", "a view"),
        ("CREATE TABLE {t} (LIKE {w} INCLUDING ALL) PARTITION BY HASH (id)", "a partitioned table"),
        (
            "CREATE TABLE {t} (LIKE {w} INCLUDING ALL); CREATE RULE r AS ON INSERT TO {t} DO INSTEAD NOTHING",
            "rules",
        ),
    ] {
        let (whole, table) = (changed(shared(), "SELECT 1"), a_table());
        let make = make.replace("{t}", &table).replace("{w}", &whole);
        let index = format!("CREATE TABLE {table}_index (LIKE {whole}_index INCLUDING ALL)");
        shared().sql(&format!("SET ROLE {}; {make}; {index}", Postgres::USER));
        let text = opened(shared(), &table).await.expect_err(&make);
        assert!(text.contains(found) && !text.contains("run:"), "{text}");
    }
}

#[tokio::test]
#[ignore = "needs postgres: cargo xtask test"]
async fn harmless_additions_to_the_table_are_accepted() {
    let changes = [
        "SELECT 1",
        "ALTER TABLE {t} ADD note text, ADD made timestamptz NOT NULL DEFAULT now(), ADD n serial UNIQUE, \
         ADD size int GENERATED ALWAYS AS (length(record)) STORED; CREATE INDEX ON {t} (touched)",
        "ALTER TABLE {t}_index ADD made timestamptz NOT NULL DEFAULT now(); CREATE INDEX ON {t}_index (value)",
        "DROP INDEX {t}_due; CREATE INDEX ON {t} (due, tombstone)",
        "ALTER TABLE {t} DROP CONSTRAINT {t}_pkey; CREATE UNIQUE INDEX ON {t} (id)",
        "ALTER TABLE {t} SET UNLOGGED",
        "ALTER TABLE {t} SET (fillfactor = 100)",
    ];
    tables::harmless_additions_to_the_table_are_accepted(shared(), &changes).await;
}

#[tokio::test]
#[ignore = "needs postgres: cargo xtask test"]
async fn what_a_crash_may_undo_is_advice_for_a_site_with_logins() {
    let advice = async |table: &str, relaxed: bool| {
        let builder = PostgresProvider::builder(url_with("")).table(table).relaxed(relaxed);
        let manager = Manager::builder(builder.connect().await.unwrap()).end_user_on_reuse(true).build();
        manager.unwrap().advice().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let (logged, unlogged) =
        (changed(shared(), "SELECT 1"), changed(shared(), "ALTER TABLE {t} SET UNLOGGED"));
    assert_eq!(advice(&logged, false).await, [""; 0]);
    for (table, relaxed, expected) in [
        (&logged, true, &["set \"durability\": \"atomic\""][..]),
        (&unlogged, false, &["SET LOGGED"]),
        (&unlogged, true, &["SET LOGGED", "set \"durability\": \"atomic\""]),
    ] {
        let told = advice(table, relaxed).await;
        assert_eq!(told.len(), expected.len(), "{told:?}");
        for (told, expected) in told.iter().zip(expected) {
            assert!(told.starts_with("durability: ") && told.contains(expected), "{told}");
        }
    }
    let Err(text) = opened(shared(), &changed(shared(), "ALTER TABLE {t}_index SET UNLOGGED")).await else {
        panic!("an index that a crash empties is accepted")
    };
    assert!(text.contains("SET LOGGED"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs postgres: cargo xtask test"]
async fn several_processes_create_the_tables_at_once() {
    for _ in 0..5 {
        let table = a_table();
        let opening: Vec<_> = (0..8)
            .map(|_| {
                let url = url_with(&format!("pool=1&table={table}"));
                let builder = PostgresProvider::builder(&url).deadline(std::time::Duration::from_secs(20));
                let builder = builder.connect_timeout(std::time::Duration::from_secs(20));
                tokio::spawn(builder.connect())
            })
            .collect();
        for one in opening {
            assert_eq!(one.await.unwrap().unwrap().count().await.unwrap(), 0);
        }
    }
}

#[tokio::test]
#[ignore = "needs postgres: cargo xtask test"]
async fn a_schema_is_named_or_found_by_search_path() {
    let table = a_table();
    let owner = Postgres::USER;
    shared().sql(&format!("CREATE SCHEMA IF NOT EXISTS \"Odd \"\"one\" AUTHORIZATION {owner}; CREATE SCHEMA IF NOT EXISTS web AUTHORIZATION {owner}"));
    let named = opened(shared(), &format!("web.{table}")).await.unwrap();
    let stored = record(&Clock::system()).principal("alice").build();
    assert_eq!(named.create(&"one".parse().unwrap(), &stored).await.unwrap(), Created::Done);
    assert_eq!(shared().sql(&format!("SELECT count(*) FROM web.{table}_index")), "1\n");
    let by_path = PostgresProvider::connect(url_with(&format!("table={table}&search_path=nowhere%2Cweb")))
        .await
        .unwrap();
    assert_eq!(by_path.count().await.unwrap(), 1, "the table in the path is found");
    let odd =
        PostgresProvider::connect(url_with(&format!("table={table}&search_path=%22Odd%20%22%22one%22")))
            .await
            .unwrap();
    assert_eq!(odd.count().await.unwrap(), 0, "a new table is created in the first schema of the path");
    let error =
        PostgresProvider::connect(url_with(&format!("table={table}&search_path=nowhere"))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("search_path"), "{error}");
    let text = opened(shared(), &format!("nowhere.{table}")).await.unwrap_err();
    assert!(text.contains("3F000"), "{text}");
    let strict = PostgresProvider::builder(url_with("")).table(&a_table()).create_table(false);
    let error = strict.connect().await.unwrap_err();
    assert!(error.to_string().contains("no such table"), "{error}");
}
