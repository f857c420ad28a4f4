//! Existing tables: the accepted forms, and the errors of the others.

use cloakroom::{MySqlProvider, Provider};
use servers::MariaDb;

use crate::server::{a_table, schema, shared};
use crate::sql::tables::{self, SchemaSql, changed, opened};

impl SchemaSql for MariaDb {
    fn creation(table: &str) -> String {
        schema(table)
    }
}

#[tokio::test]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn a_table_is_refused_until_the_named_fix_is_run() {
    let changes = [
        ("ALTER TABLE {t} DROP PRIMARY KEY", "no primary key on id"),
        (
            "ALTER TABLE {t} DROP PRIMARY KEY, ADD PRIMARY KEY (id(10))",
            "the unique key PRIMARY on id in part",
        ),
        ("ALTER TABLE {t} DROP PRIMARY KEY, ADD n INT AUTO_INCREMENT PRIMARY KEY", "no primary key on id"),
        ("ALTER TABLE {t} DROP KEY expiry", "no key on expires"),
        ("ALTER TABLE {t} ADD UNIQUE KEY once (version)", "the unique key once on version"),
        ("ALTER TABLE {t}_index DROP PRIMARY KEY", "no primary key on kind, value, id"),
        ("ALTER TABLE {t}_index DROP KEY session", "no key on id"),
        ("ALTER TABLE {t}_index ADD UNIQUE KEY once (kind, value)", "the unique key once on kind, value"),
        ("ALTER TABLE {t}_index MODIFY value VARCHAR(256)", "value of type varchar(256)"),
        ("ALTER TABLE {t}_index ENGINE = Aria", "the engine aria"),
        ("ALTER TABLE {t} ADD tenant INT NOT NULL", "the column tenant that is NOT NULL and has no default"),
        ("ALTER TABLE {t} MODIFY touched BIGINT UNSIGNED NOT NULL", "touched that does not allow NULL"),
        ("ALTER TABLE {t} MODIFY id VARCHAR(192) COLLATE utf8mb4_general_ci", "id of type varchar(192)"),
        ("ALTER TABLE {t} MODIFY id VARBINARY(64)", "id of type varbinary(64)"),
        ("ALTER TABLE {t} MODIFY expires INT UNSIGNED", "expires of type int unsigned"),
        ("ALTER TABLE {t} MODIFY record BLOB", "record of type blob"),
        ("ALTER TABLE {t} ENGINE = MyISAM", "the engine myisam"),
        ("ALTER TABLE {t} ENGINE = Aria", "the engine aria"),
        ("ALTER TABLE {t} ADD SYSTEM VERSIONING", "a table with system versioning"),
    ];
    tables::a_table_is_refused_until_the_named_fix_is_run(shared(), &changes).await;
}

#[tokio::test]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn a_copy_without_its_keys_is_refused() {
    let whole = changed(shared(), "SELECT 1");
    let copy = a_table();
    shared().sql(&format!("CREATE TABLE {copy} AS SELECT * FROM {whole}"));
    let text = opened(shared(), &copy).await.unwrap_err();
    for lacks in ["no primary key on id", "no key on expires"] {
        assert!(text.contains(lacks), "{text}");
    }
    assert!(text.contains(&format!("run: ALTER TABLE `{copy}` ADD PRIMARY KEY (id), ADD KEY")), "{text}");
}

#[tokio::test]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn a_view_is_no_table() {
    let (whole, view) = (changed(shared(), "SELECT 1"), a_table());
    shared().sql(&format!("CREATE VIEW {view} AS SELECT * FROM {whole}"));
    let text = opened(shared(), &view).await.unwrap_err();
    assert!(text.contains("a view") && !text.contains("run:"), "{text}");
}

#[tokio::test]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn harmless_additions_to_the_table_are_accepted() {
    let changes = [
        "SELECT 1",
        "ALTER TABLE {t} ADD note VARCHAR(20) NULL, ADD made TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, \
         ADD n INT NOT NULL AUTO_INCREMENT UNIQUE, ADD size INT AS (LENGTH(record)) VIRTUAL, ADD KEY (touched)",
        "ALTER TABLE {t}_index ADD made TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, ADD KEY mine (value)",
        "ALTER TABLE {t}_index PARTITION BY KEY (kind, value, id) PARTITIONS 4",
        "ALTER TABLE {t} DROP KEY expiry, ADD KEY other (expires)",
        "ALTER TABLE {t} DROP PRIMARY KEY, ADD UNIQUE KEY (id)",
        "ALTER TABLE {t} PARTITION BY KEY (id) PARTITIONS 4",
        "ALTER TABLE {t} ROW_FORMAT = COMPRESSED",
    ];
    tables::harmless_additions_to_the_table_are_accepted(shared(), &changes).await;
}

#[tokio::test]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn a_server_with_lower_case_names_finds_its_table() {
    let options = servers::MariaDbOptions {
        settings: vec!["--lower-case-table-names=1".to_owned()],
        ..Default::default()
    };
    let server = MariaDb::with(options);
    for _ in 0..2 {
        let provider = MySqlProvider::connect(&server.dsn("table=Visits")).await.unwrap();
        assert_eq!(provider.count().await.unwrap(), 0);
    }
    assert_eq!(server.sql("SHOW TABLES"), "visits\nvisits_index\n");
}
