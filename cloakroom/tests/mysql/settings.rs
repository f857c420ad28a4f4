//! Settings: the data source name, errors at the start, and texts without credentials.

use std::time::Duration;

use cloakroom::testkit::{base, record};
use cloakroom::{
    Clock, Error, ErrorKind, Manager, ManualClock, MySqlProvider, Provider,
    providers::{Created, Renamed, StoreKey, Touched, Updated},
};
use servers::{MariaDb, MariaDbOptions};

use crate::server::{self, a_table, over_socket, over_tls, plain, shared};

fn key(text: &str) -> StoreKey {
    text.parse().unwrap()
}

/// Returns the kind and the text of the error, with its sources, and checks that they show no credential.
async fn refused(dsn: &str) -> (ErrorKind, String) {
    let answer = MySqlProvider::connect(dsn).await;
    let error = answer.expect_err(dsn);
    (error.kind(), shown(&error))
}

fn shown(error: &Error) -> String {
    let mut all = format!("{error} {error:?}");
    let mut cause = std::error::Error::source(error);
    while let Some(deeper) = cause {
        all += &format!(" {deeper} {deeper:?}");
        cause = deeper.source();
    }
    for secret in [MariaDb::USER, MariaDb::PASSWORD, "hunter2", "us3r"] {
        // The tests' user has the library's name.
        let all =
            all.replace("cloakroom schema", "").replace("cloakroom_sessions", "").replace("cloakroom::", "");
        assert!(!all.contains(secret), "{secret} is shown: {all}");
    }
    all
}

#[tokio::test]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn wrong_settings_are_errors_without_credentials() {
    let place = format!("tcp({})", shared().address());
    let tls = MariaDb::dsn_at(&format!("tcp(localhost:{})", shared().address().port()), "tls=true");
    for (dsn, kind, expected) in [
        (format!("us3r:hunter2@{place}/app"), ErrorKind::Config, "refuses the login"),
        (format!("{}:hunter2@{place}/app", MariaDb::USER), ErrorKind::Config, "refuses the login"),
        (
            plain().replace("/app?", "/hunter2?"),
            ErrorKind::Config,
            "does not know the database, or this user may not use it",
        ),
        (plain().replace("/app?", "/?"), ErrorKind::Config, "expected a database"),
        (plain() + "no_such_variable=hunter2", ErrorKind::Config, "refuses a setting"),
        (plain() + "charset=hunter2", ErrorKind::Config, "refuses a setting"),
        (plain() + "sql_mode=%27NO_SUCH_MODE%27", ErrorKind::Config, "refuses a setting"),
        (plain() + "table=no-name", ErrorKind::Config, "letters, digits"),
        (plain() + "pool=10001", ErrorKind::Config, "1 to 10,000"),
        (tls, ErrorKind::Unavailable, "could not be encrypted"),
        ("us3r:hunter2@tcp(127.0.0.1:1)/app".to_owned(), ErrorKind::Unavailable, "failed or was lost"),
        ("us3r:hunter2@unix(/no/socket)/app".to_owned(), ErrorKind::Unavailable, "failed or was lost"),
        ("us3r:hunter2@tcp(192.0.2.1)/app?timeout=50ms".to_owned(), ErrorKind::Timeout, "within 50ms"),
    ] {
        let (found, text) = refused(&dsn).await;
        // On a machine without a network the connection fails at once.
        let no_network = dsn.contains("192.0.2.1") && found == ErrorKind::Unavailable;
        assert!(no_network || (found, text.contains(expected)) == (kind, true), "{found:?}: {text}");
    }
}

#[tokio::test]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn a_configuration_string_opens_the_provider() {
    let dsn = plain() + "table=" + &a_table();
    let config = format!("{{\"cookieName\":\"id\",\"gclifetime\":3600,\"providerConfig\":\"{dsn}\"}}");
    let sessions = Manager::new("mysql", &config).await.unwrap();
    assert_eq!(sessions.active_sessions().await.unwrap(), 0);
    let provider = MySqlProvider::connect(&dsn).await.unwrap();
    let builder = MySqlProvider::builder(&dsn);
    let shown = format!("{sessions:?} {provider:?} {builder:?} {:?}", sessions.advice());
    assert!(!shown.contains(MariaDb::PASSWORD) && !shown.contains("p@ss"), "{shown}");
    assert!(shown.contains("127.0.0.1"), "{shown}");
}

#[tokio::test]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn every_form_of_data_source_name_connects() {
    let escaped: String = MariaDb::PASSWORD.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let port = shared().address().port();
    let socket = shared().socket().display().to_string().replace('/', "%2F");
    let user = MariaDb::USER;
    for dsn in [
        plain() + "max_statement_time=30&lock_wait_timeout=5",
        plain() + "tx_isolation=%27REPEATABLE-READ%27",
        plain() + "sql_mode=%27ANSI%27&autocommit=true&wait_timeout=28800",
        plain() + "charset=no_such_one,utf8mb4&collation=utf8mb4_bin",
        plain() + "collation=latin1_swedish_ci",
        plain() + "charset=gbk",
        plain() + "readTimeout=0&timeout=0&checkConnLiveness=false&rejectReadOnly=true",
        plain() + "tls=skip-verify",
        plain() + "tls=preferred",
        over_tls(),
        over_tls().replace("tls=true", "ssl-mode=VERIFY_CA"),
        over_socket(),
        format!("mysql://{user}:{escaped}@127.0.0.1:{port}/app"),
        format!("mysql://{user}:{escaped}@localhost/app?socket={socket}"),
        format!("mysql://{user}:{escaped}@{socket}/app?ssl-mode=required"),
    ] {
        let builder = MySqlProvider::builder(&dsn).table(&a_table());
        let provider = builder.connect().await.unwrap_or_else(|error| panic!("{dsn}: {error}"));
        let stored = record(&Clock::system()).principal("älice").filled(300).build();
        assert_eq!(provider.create(&key("one"), &stored).await.unwrap(), Created::Done, "{dsn}");
        assert_eq!(provider.load(&key("one")).await.unwrap(), Some(stored), "{dsn}");
    }
}

#[tokio::test]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn a_user_who_requires_tls_connects_only_with_tls() {
    shared()
        .sql("CREATE USER 'careful'@'%' IDENTIFIED BY 'pw' REQUIRE SSL; GRANT ALL ON app.* TO 'careful'@'%'");
    let as_careful = |dsn: String| {
        dsn.replace(&format!("{}:{}", MariaDb::USER, MariaDb::PASSWORD), "careful:pw")
            + "&table="
            + &a_table()
    };
    let error = MySqlProvider::connect(&as_careful(plain())).await.unwrap_err();
    assert!(error.to_string().contains("refuses the login"), "{error}");
    for dsn in [over_tls(), plain() + "tls=preferred", plain() + "tls=skip-verify"] {
        assert_eq!(MySqlProvider::connect(&as_careful(dsn)).await.unwrap().count().await.unwrap(), 0);
    }
}

#[tokio::test]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn a_table_of_another_form_is_refused_and_unchanged() {
    let table = a_table();
    shared().sql(&format!("CREATE TABLE {table} (session_key CHAR(64) PRIMARY KEY, session_data BLOB)"));
    let (kind, text) = refused(&(plain() + "table=" + &table)).await;
    assert!(kind == ErrorKind::Config && text.contains("no column id"), "{text}");
    assert_eq!(shared().sql(&format!("SELECT COUNT(*) FROM {table}")), "0\n");

    let table = a_table();
    shared().sql(&server::schema(&table).replace("InnoDB", "MyISAM"));
    let (kind, text) = refused(&(plain() + "table=" + &table)).await;
    assert!(kind == ErrorKind::Config && text.contains("the engine myisam"), "{text}");

    let table = a_table();
    shared().sql(&server::schema(&table).replace("VARBINARY(192)", "VARCHAR(192)"));
    let (kind, text) = refused(&(plain() + "table=" + &table)).await;
    assert!(kind == ErrorKind::Config && text.contains("id of type varchar(192)"), "{text}");
}

#[tokio::test]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn create_table_false_needs_an_existing_table() {
    let table = a_table();
    let dsn = plain() + "table=" + &table;
    let careful = async || MySqlProvider::builder(&dsn).create_table(false).connect().await;
    let error = careful().await.unwrap_err();
    assert!(
        error.kind() == ErrorKind::Config && error.to_string().contains("found no such table"),
        "{error}"
    );
    let statements = MySqlProvider::schema(&table).unwrap();
    shared().sql(&statements[0]);
    let error = careful().await.unwrap_err();
    assert!(error.to_string().contains(&format!("{table}_index")), "{error}");
    shared().sql(&statements[1]);
    assert_eq!(careful().await.unwrap().count().await.unwrap(), 0);
}

#[tokio::test]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn a_record_too_large_for_the_server_is_not_sent() {
    const PACKET: usize = 256 * 1024;
    let options =
        MariaDbOptions { settings: vec![format!("--max-allowed-packet={PACKET}")], ..Default::default() };
    let server = MariaDb::with(options);
    let provider = MySqlProvider::builder(server.dsn("pool=1")).connect().await.unwrap();
    let most = provider.capabilities().max_record.unwrap();
    assert_eq!(most, PACKET - 1024);
    let of = |size: usize| {
        let empty = record(&Clock::system()).principal("x".repeat(256)).filled(1 << 17).build();
        let around = empty.as_bytes().len() - empty.data().len();
        record(&Clock::system()).principal("x".repeat(256)).version(2).filled(size - around).build()
    };
    let (long, other) = (key(&"k".repeat(192)), key(&"l".repeat(192)));
    let mut log = server.log_statements();
    let small = record(&Clock::system()).build();
    assert_eq!(provider.create(&other, &small).await.unwrap(), Created::Done);
    log.take();
    let too_large = of(most + 1);
    assert_eq!(too_large.as_bytes().len(), most + 1);
    let version = small.version();
    for error in [
        provider.create(&long, &too_large).await.unwrap_err(),
        provider.update(&other, &too_large, &base(version)).await.unwrap_err(),
        provider.rename(&other, &long, &too_large, version, None).await.unwrap_err(),
        provider.rename(&other, &long, &small, version, Some(&too_large)).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
        assert!(error.to_string().contains("max_allowed_packet"), "{error}");
    }
    assert_eq!(log.take(), Vec::<String>::new(), "nothing was sent");
    // Every step accepts the largest record, with the longest keys and the longest principal.
    let largest = of(most);
    assert_eq!(largest.as_bytes().len(), most);
    assert_eq!(provider.update(&other, &largest, &base(version)).await.unwrap(), Updated::Done);
    assert_eq!(provider.rename(&other, &long, &largest, 2, None).await.unwrap(), Renamed::Done);
    assert_eq!(provider.load(&long).await.unwrap(), Some(largest.clone()));
    assert_eq!(provider.rename(&long, &other, &largest, 2, Some(&small)).await.unwrap(), Renamed::Done);
    assert_eq!(provider.load(&other).await.unwrap(), Some(largest));

    let chosen = MySqlProvider::connect(&server.dsn("maxAllowedPacket=4096&table=other")).await.unwrap();
    assert_eq!(chosen.capabilities().max_record, Some(4096 - 1024));
    let error = chosen.create(&long, &of(4096)).await.unwrap_err();
    assert!(error.to_string().contains("maxAllowedPacket of the data source name"), "{error}");
}

#[tokio::test]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn the_servers_clock_decides_what_has_expired() {
    let provider = MySqlProvider::connect(&(plain() + "table=" + &a_table())).await.unwrap();
    let now = Clock::system().now();
    let at = |offset: i64| {
        let time = ManualClock::starting_at(now - Duration::from_secs(7_200));
        let lasts = Duration::from_secs(7_200u64.saturating_add_signed(offset));
        record(&time.clock()).idle(lasts).absolute(Duration::from_secs(90_000)).build()
    };
    // A machine whose clock is two hours behind creates the records, with deadlines before and after the server's time.
    assert_eq!(provider.create(&key("over"), &at(-60)).await.unwrap(), Created::Done);
    assert_eq!(provider.create(&key("alive"), &at(60)).await.unwrap(), Created::Done);
    assert_eq!(provider.load(&key("over")).await.unwrap(), None);
    assert_eq!(provider.load(&key("alive")).await.unwrap(), Some(at(60)));
    assert_eq!(provider.count().await.unwrap(), 1);
    assert_eq!(provider.touch(&key("alive"), now).await.unwrap(), Touched::Done);
    assert_eq!(provider.delete_expired(10).await.unwrap().removed, 1);
}

#[tokio::test]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn a_lock_wait_is_retried_until_the_deadline() {
    let table = a_table();
    let builder = MySqlProvider::builder(&(plain() + "table=" + &table));
    let provider = builder.clone().deadline(Duration::from_secs(10)).connect().await.unwrap();
    let hasty = builder.deadline(Duration::from_millis(100)).connect().await.unwrap();
    let (one, first) = (key("one"), record(&Clock::system()).build());
    assert_eq!(provider.create(&one, &first).await.unwrap(), Created::Done);
    let next = record(&Clock::system()).version(first.version() + 1).build();

    let mut other = shared().client();
    other.run("START TRANSACTION");
    assert_eq!(other.ask(&format!("SELECT id FROM {table} FOR UPDATE")), "one");
    let error = hasty.update(&one, &next, &first).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    // A read waits for no lock.
    assert_eq!(hasty.load(&one).await.unwrap(), Some(first.clone()));
    // The server ends the first attempt after a second. The lock is released during the second attempt.
    let update = provider.update(&one, &next, &first);
    let release = async {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        drop(other);
    };
    let (updated, ()) = tokio::join!(update, release);
    // The statement of the call that timed out was on the server already, and may have been first.
    assert!(matches!(updated.unwrap(), Updated::Done | Updated::Stale));
    assert_eq!(provider.load(&one).await.unwrap(), Some(next));
}

#[tokio::test]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn a_rename_that_waits_for_a_lock_is_retried_whole() {
    let table = a_table();
    let builder = MySqlProvider::builder(&(plain() + "pool=1&table=" + &table));
    let provider = builder.deadline(Duration::from_secs(30)).connect().await.unwrap();
    let (old, new) = (key("old"), key("new"));
    let first = record(&Clock::system()).principal("alice").build();
    assert_eq!(provider.create(&old, &first).await.unwrap(), Created::Done);
    let next = record(&Clock::system()).principal("alice").version(first.version() + 1).build();
    let mark = record(&Clock::system()).tombstone(&new, Duration::from_secs(30));

    // Another transaction inserts the new key and is rolled back.
    let mut other = shared().client();
    other.run("START TRANSACTION");
    let columns = "id, version, expires, absolute, idle, tombstone, record";
    other.run(&format!("INSERT INTO {table} ({columns}) VALUES ('new', 1, 1 << 50, 1, 1, 0, 'x')"));
    assert_eq!(other.ask("SELECT 'taken'"), "taken");
    let rename = provider.rename(&old, &new, &next, first.version(), Some(&mark));
    let release = async {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        drop(other);
    };
    let (renamed, ()) = tokio::join!(rename, release);
    assert_eq!(renamed.unwrap(), Renamed::Done);
    assert_eq!(provider.load(&new).await.unwrap(), Some(next));
    assert_eq!(provider.load(&old).await.unwrap(), Some(mark));
    assert_eq!(provider.count().await.unwrap(), 1);
}
