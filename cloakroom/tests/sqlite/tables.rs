//! The form of existing tables, the settings of the path, and configuration strings.

use std::time::Duration;

use cloakroom::providers::{Created, Durability};
use cloakroom::{ErrorKind, Manager, Provider, SqliteProvider};

use crate::folder::{DataFolder, TABLE, a_record, key, number, run};

async fn refused(path: impl AsRef<std::path::Path>) -> String {
    let error = SqliteProvider::connect(path).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    error.to_string()
}

#[tokio::test]
async fn tables_of_another_form_are_refused() {
    let folder = DataFolder::new();
    drop(SqliteProvider::connect(folder.path()).await.unwrap());
    let statements = SqliteProvider::schema("other").unwrap();
    for (change, found) in [
        ("record    BLOB    NOT NULL", "no column record of type BLOB"),
        ("TEXT    NOT NULL PRIMARY KEY", "no primary key on id"),
    ] {
        let replacement = if found.starts_with("no column") { "data BLOB" } else { "TEXT NOT NULL" };
        let made = statements[0].replace(change, replacement);
        assert_ne!(made, statements[0]);
        run(&folder.path(), &format!("DROP TABLE IF EXISTS other; {made}"));
        let text = refused(format!("sqlite:{}?table=other", folder.path().display())).await;
        assert!(text.contains(found) && text.contains("cloakroom schema sqlite"), "{text}");
    }
    run(&folder.path(), "DROP TABLE other; CREATE VIEW other AS SELECT 1");
    let text = refused(format!("sqlite:{}?table=other", folder.path().display())).await;
    assert!(text.contains("a view"), "{text}");
    // Another comparison of keys would mix the sessions of two ids.
    let folding =
        statements[0].replace("TEXT    NOT NULL PRIMARY KEY", "TEXT NOT NULL COLLATE NOCASE PRIMARY KEY");
    run(&folder.path(), &format!("DROP VIEW other; {folding}"));
    let text = refused(format!("sqlite:{}?table=other", folder.path().display())).await;
    assert!(text.contains("no primary key on id that compares bytes"), "{text}");
}

#[tokio::test]
async fn the_error_of_a_missing_index_has_its_statement() {
    let folder = DataFolder::new();
    drop(SqliteProvider::connect(folder.path()).await.unwrap());
    run(&folder.path(), &format!("DROP INDEX {TABLE}_expiry"));
    let text = refused(folder.path()).await;
    let (_, statement) = text.split_once("run: ").expect("a statement");
    run(&folder.path(), statement);
    drop(SqliteProvider::connect(folder.path()).await.unwrap());
}

#[tokio::test]
async fn the_printed_statements_make_the_tables() {
    let folder = DataFolder::new();
    std::fs::create_dir(folder.path().parent().unwrap()).unwrap();
    run(&folder.path(), &SqliteProvider::schema("visitors").unwrap().join(";\n"));
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let builder = SqliteProvider::builder(folder.path()).table("visitors").create_table(false);
    let provider = builder.connect().await.unwrap();
    assert_eq!(provider.create(&key("one"), &a_record(1)).await.unwrap(), Created::Done);
    assert_eq!(number(&folder.path(), "SELECT COUNT(*) FROM visitors_index"), 1);
}

#[tokio::test]
async fn nothing_is_created_if_the_settings_say_so() {
    let folder = DataFolder::new();
    let path = format!("sqlite:{}?create_table=false", folder.path().display());
    assert!(refused(&path).await.contains("found none"));
    assert!(!folder.path().exists());
    std::fs::create_dir_all(folder.path().parent().unwrap()).unwrap();
    run(&folder.path(), "CREATE TABLE mine (n)");
    assert!(refused(&path).await.contains("no such table"));
}

#[tokio::test]
async fn wrong_settings_are_errors_of_connect() {
    let folder = DataFolder::new();
    let builder = || SqliteProvider::builder(folder.path());
    for (builder, text) in [
        (builder().table("a\"b"), "the table's name"),
        (builder().readers(0), "1 to 64"),
        (builder().readers(65), "1 to 64"),
    ] {
        let error = builder.connect().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(text), "{error}");
    }
    assert!(refused(":memory:").await.contains("MemoryProvider"));
    assert!(refused("sqlite:x.db?tabel=x").await.contains("did you mean table?"));
}

#[tokio::test]
async fn a_configuration_string_names_the_provider() {
    let folder = DataFolder::new();
    let path = folder.path().display().to_string();
    let config = format!(
        r#"{{"cookieName":"id","durability":"durable","providerConfig":"sqlite:{path}?table=visitors&deadline=1s"}}"#
    );
    let sessions = Manager::new("sqlite", &config).await.unwrap();
    let session = sessions.start(&http::HeaderMap::new()).await.unwrap();
    session.set("k", 1).unwrap();
    session.save().await.unwrap();
    assert_eq!(number(&folder.path(), "SELECT COUNT(*) FROM visitors"), 1);
    for (wrong, text) in [
        (r#""format":"beego","hashIds":false"#, "native"),
        (r#""durability":"sometimes""#, "atomic or durable"),
    ] {
        let config = format!(r#"{{"cookieName":"id",{wrong},"providerConfig":"{path}"}}"#);
        let error = Manager::new("sqlite", &config).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[tokio::test]
async fn what_a_power_failure_may_undo_is_advice_with_logins() {
    let folder = DataFolder::new();
    for (durability, expected) in [(Durability::Atomic, 1), (Durability::Durable, 0)] {
        let provider = SqliteProvider::builder(folder.path()).durability(durability).connect().await.unwrap();
        let advice = Manager::builder(provider.clone()).end_user_on_reuse(true).build().unwrap().advice();
        assert_eq!(advice.iter().filter(|advice| advice.setting() == "durability").count(), expected);
        assert_eq!(advice.len(), expected, "{advice:?}");
        assert_eq!(Manager::builder(provider).build().unwrap().advice(), [], "no setting shows logins");
    }
}

#[tokio::test]
async fn expired_sessions_are_collected_in_bounded_steps() {
    let (folder, time) = (DataFolder::new(), cloakroom::ManualClock::default());
    let provider = SqliteProvider::builder(folder.path()).clock(time.clock()).connect().await.unwrap();
    for n in 0..130 {
        let record = cloakroom::testkit::record(&time.clock()).principal("alice").build();
        assert_eq!(provider.create(&key(&format!("n{n}")), &record).await.unwrap(), Created::Done);
    }
    time.advance(Duration::from_secs(3600 * 24 * 30));
    let first = provider.delete_expired(1_000).await.unwrap();
    assert_eq!((first.removed, first.more), (100, true), "a batch");
    let second = provider.delete_expired(1_000).await.unwrap();
    assert_eq!((second.removed, second.more), (30, false));
    for table in [TABLE.to_owned(), format!("{TABLE}_index")] {
        assert_eq!(number(&folder.path(), &format!("SELECT COUNT(*) FROM {table}")), 0, "{table}");
    }
}
