//! Connections to real servers.

use std::fs;
use std::path::Path;
use std::time::Instant;

use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{ServerName, UnixTime};
use servers::{Certificates, Postgres, PostgresOptions};
use tokio_postgres::{AsyncMessage, SimpleQueryMessage};

use super::super::open_error::OpenError;
use super::super::tls::CertificateFileError;
use super::*;

/// Returns the one value that `sql` selects on a new connection.
async fn selected(settings: &Settings, sql: &str) -> Result<String, OpenError> {
    let connection = settings.open().await?;
    let value = value(&connection, sql).await;
    connection.close().await;
    Ok(value)
}

async fn value(connection: &OpenConnection, sql: &str) -> String {
    let messages = connection.client.simple_query(sql).await.unwrap();
    let row = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    row.unwrap_or("no row").to_owned()
}

const ENCRYPTED: &str = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";

/// Returns the port of the server, as a value in SQL.
fn port(server: &Postgres) -> String {
    server.address().port().to_string()
}

fn tls() -> Postgres {
    Postgres::with(PostgresOptions { tls: true, ..PostgresOptions::default() })
}

fn in_home(url: &str, home: &Path) -> Settings {
    Settings::parse_in(url, &Environment { home: Some(home.into()), ..bare() }).unwrap()
}

#[tokio::test]
#[ignore = "needs postgres: cargo xtask test"]
async fn each_sslmode_is_as_libpq_documents_it() {
    let server = tls();
    let other = tempfile::tempdir().unwrap();
    let right = server.certificates().authority.display().to_string();
    let wrong = Certificates::write(other.path()).authority.display().to_string();
    let misnamed = "&host=wrong.example&hostaddr=127.0.0.1";
    for (params, expected) in [
        ("sslmode=disable".to_owned(), Some("f")),
        ("sslmode=allow".to_owned(), Some("f")),
        ("sslmode=prefer".to_owned(), Some("t")),
        ("sslmode=require".to_owned(), Some("t")),
        (String::new(), Some("t")),
        (format!("sslmode=prefer&sslrootcert={wrong}"), Some("f")),
        (format!("sslmode=require&sslrootcert={wrong}"), None),
        (format!("sslmode=require&sslrootcert={right}{misnamed}"), Some("t")),
        (format!("sslmode=verify-ca&sslrootcert={wrong}"), None),
        (format!("sslmode=verify-ca&sslrootcert={right}{misnamed}"), Some("t")),
        (format!("sslmode=verify-ca&sslrootcert={right}&sslsni=0"), Some("t")),
        (format!("sslmode=verify-full&sslrootcert={right}"), Some("t")),
        (format!("sslmode=verify-full&sslrootcert={right}&host=localhost&hostaddr=127.0.0.1"), Some("t")),
        (format!("sslmode=verify-full&sslrootcert={right}{misnamed}"), None),
        (format!("sslmode=verify-full&sslrootcert={wrong}"), None),
        ("sslrootcert=system".to_owned(), None),
        (format!("sslmode=verify-full&sslrootcert={right}&channel_binding=require"), Some("t")),
    ] {
        let found = selected(&parsed(&server.url(&params)), ENCRYPTED).await;
        match (expected, found) {
            (Some(expected), found) => assert_eq!(found.unwrap(), expected, "{params}"),
            (None, Err(OpenError::Handshake { host: 1, .. })) => {}
            (None, found) => panic!("{params}: {found:?}"),
        }
    }
    let version = "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    for (params, expected) in
        [("ssl_min_protocol_version=TLSv1.3", "TLSv1.3"), ("ssl_max_protocol_version=TLSv1.2", "TLSv1.2")]
    {
        assert_eq!(selected(&parsed(&server.url(params)), version).await.unwrap(), expected);
    }
}

#[tokio::test]
#[ignore = "needs postgres: cargo xtask test"]
async fn authorities_come_from_home_or_the_string() {
    let server = tls();
    let home = tempfile::tempdir().unwrap();
    let missing = selected(&in_home(&server.url("sslmode=verify-full"), home.path()), ENCRYPTED).await;
    assert!(
        matches!(missing, Err(OpenError::CertificateFile(CertificateFileError::NoAuthorities))),
        "{missing:?}"
    );
    let folder = home.path().join(".postgresql");
    fs::create_dir(&folder).unwrap();
    fs::copy(Certificates::write(home.path()).authority, folder.join("root.crt")).unwrap();
    // A file of authorities makes `require` verify.
    let wrong = selected(&in_home(&server.url("sslmode=require"), home.path()), ENCRYPTED).await;
    assert!(matches!(wrong, Err(OpenError::Handshake { .. })), "{wrong:?}");
    let settings = in_home(&server.url("sslmode=verify-full"), home.path());
    fs::copy(&server.certificates().authority, folder.join("root.crt")).unwrap();
    // The file is read for each connection.
    assert_eq!(selected(&settings, ENCRYPTED).await.unwrap(), "t");
    let pem = fs::read_to_string(&server.certificates().authority)
        .unwrap()
        .replace('\n', "%0A")
        .replace('+', "%2B");
    let inline = format!("sslmode=verify-full&sslinline=true&sslrootcert={}", pem.replace(' ', "%20"));
    assert_eq!(selected(&parsed(&server.url(&inline)), ENCRYPTED).await.unwrap(), "t");
    let absent = selected(&parsed(&server.url("sslmode=require&sslrootcert=/nonexistent")), ENCRYPTED).await;
    let Err(OpenError::CertificateFile(CertificateFileError::Read { name: "sslrootcert", .. })) = absent
    else {
        panic!("{absent:?}");
    };
}

#[tokio::test]
#[ignore = "needs postgres: cargo xtask test"]
async fn a_client_certificate_logs_in_without_a_password() {
    let server = tls();
    let files = server.certificates();
    let (certificate, key) = (files.client.display(), files.client_key.display());
    let url = |params: &str| format!("postgres://client@{}/app?sslmode=require&{params}", server.address());
    let settings = parsed(&url(&format!("sslcert={certificate}&sslkey={key}")));
    assert_eq!(selected(&settings, "SELECT current_user").await.unwrap(), "client");
    for params in ["", &format!("sslcert={certificate}&sslkey={key}&sslcertmode=disable")] {
        let refusal = selected(&parsed(&url(params)), "SELECT 1").await.unwrap_err();
        assert!(refusal.is_config(), "{refusal:?}");
        assert_eq!(refusal.driver_error().unwrap().code().unwrap().code(), "28000");
    }
    let inline = [&files.client, &files.client_key].map(|path| {
        let pem = fs::read_to_string(path).unwrap();
        pem.replace('\n', "%0A").replace('+', "%2B").replace(' ', "%20")
    });
    let inline = format!("sslinline=true&sslcert={}&sslkey={}", inline[0], inline[1]);
    assert_eq!(selected(&parsed(&url(&inline)), "SELECT current_user").await.unwrap(), "client");
    let exposed = files.client_key.with_extension("exposed");
    fs::copy(&files.client_key, &exposed).unwrap();
    fs::set_permissions(&exposed, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let settings = parsed(&url(&format!("sslcert={certificate}&sslkey={}", exposed.display())));
    let refusal = selected(&settings, "SELECT 1").await.unwrap_err();
    assert!(matches!(refusal, OpenError::CertificateFile(CertificateFileError::Exposed)), "{refusal:?}");
    let mixed = parsed(&url(&format!("sslcert={certificate}&sslkey={}", files.server_key.display())));
    let refusal = selected(&mixed, "SELECT 1").await.unwrap_err().to_string();
    assert!(refusal.contains("expected PEM with the key of the certificate"), "{refusal}");
}

#[tokio::test]
#[ignore = "needs postgres: cargo xtask test"]
async fn allow_and_prefer_try_the_other_kind_of_connection() {
    let user = Postgres::USER;
    let access = [
        format!("hostssl app {user} 127.0.0.1/32 reject"),
        "hostnossl app client 127.0.0.1/32 reject".to_owned(),
    ];
    let server =
        Postgres::with(PostgresOptions { tls: true, access: access.into(), ..PostgresOptions::default() });
    assert_eq!(selected(&parsed(&server.url("sslmode=prefer")), ENCRYPTED).await.unwrap(), "f");
    let refusal = selected(&parsed(&server.url("sslmode=require")), ENCRYPTED).await.unwrap_err();
    assert_eq!(refusal.driver_error().unwrap().code().unwrap().code(), "28000");
    let files = server.certificates();
    let client = |mode: &str| {
        let files = format!("sslcert={}&sslkey={}", files.client.display(), files.client_key.display());
        parsed(&format!("postgres://client@{}/app?sslmode={mode}&{files}", server.address()))
    };
    assert_eq!(selected(&client("allow"), ENCRYPTED).await.unwrap(), "t");
    let refusal = selected(&client("disable"), ENCRYPTED).await.unwrap_err();
    assert_eq!(refusal.driver_error().unwrap().code().unwrap().code(), "28000");
    // A wrong password is sent once, and never again in clear text.
    let mut log = server.log_statements();
    let wrong = parsed(&format!("postgres://{user}:x@{}/app?sslmode=allow", server.address()));
    assert_eq!(
        selected(&wrong, "SELECT 1").await.unwrap_err().driver_error().unwrap().code().unwrap().code(),
        "28P01"
    );
    assert_eq!(log.take(), [""; 0]);
}

#[tokio::test]
#[ignore = "needs postgres: cargo xtask test"]
async fn a_plain_server_is_named_as_the_cause() {
    let server = Postgres::start();
    for (params, encrypted) in [("", "f"), ("sslmode=prefer", "f"), ("sslmode=allow", "f")] {
        assert_eq!(selected(&parsed(&server.url(params)), ENCRYPTED).await.unwrap(), encrypted);
    }
    let refusal = selected(&parsed(&server.url("sslmode=require")), ENCRYPTED).await.unwrap_err();
    assert!(matches!(refusal, OpenError::NoTls { host: 1 }) && refusal.is_config(), "{refusal:?}");
    let wrong = Postgres::url_at(&server.address().to_string(), "password=wrong");
    let refusal = selected(&parsed(&wrong), "SELECT 1").await.unwrap_err();
    assert!(refusal.is_config(), "{refusal:?}");
    assert_eq!(refusal.driver_error().unwrap().code().unwrap().code(), "28P01");
    // The server's text quotes the user's name, which no output shows.
    let mut shown = format!("{refusal} {refusal:?}");
    let mut cause = std::error::Error::source(&refusal);
    while let Some(deeper) = cause {
        shown += &format!(" {deeper} {deeper:?}");
        cause = deeper.source();
    }
    assert!(shown.contains("28P01") && !shown.contains(Postgres::USER), "{shown}");
    let none = selected(&parsed(&format!("postgres://cloakroom@{}/app", server.address())), "SELECT 1").await;
    assert!(matches!(none, Err(OpenError::Login { host: 1, .. })), "{none:?}");
    let database = selected(&parsed(&server.url("dbname=other")), "SELECT 1").await.unwrap_err();
    assert!(database.is_config(), "{database:?}");
}

#[tokio::test]
#[ignore = "needs postgres: cargo xtask test"]
async fn a_socket_takes_its_password_from_a_file() {
    let server = Postgres::start();
    let folder = server.socket_folder().display().to_string();
    let place = format!("{}:{}", folder.replace('/', "%2F"), port(&server));
    let url = Postgres::url_at(&place, "sslmode=verify-full");
    assert_eq!(selected(&parsed(&url), "SELECT current_user").await.unwrap(), Postgres::USER);
    let address = "SELECT coalesce(host(inet_client_addr()), 'a socket')";
    assert_eq!(selected(&parsed(&url), address).await.unwrap(), "a socket");

    let home = tempfile::tempdir().unwrap();
    let escaped = Postgres::PASSWORD.replace('\\', "\\\\").replace(':', "\\:");
    let path = home.path().join(".pgpass");
    fs::write(&path, format!("localhost:{}:app:*:{escaped}\n127.0.0.1:*:*:*:{escaped}\n", port(&server)))
        .unwrap();
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let pairs = format!("host={folder},127.0.0.1 port={} user={} dbname=app", port(&server), Postgres::USER);
    assert_eq!(selected(&in_home(&pairs, home.path()), address).await.unwrap(), "a socket");
    let tcp = pairs.replace(&format!("{folder},"), "");
    assert_eq!(selected(&in_home(&tcp, home.path()), address).await.unwrap(), "127.0.0.1");
    let named = selected(&parsed(&format!("{tcp} passfile=/nonexistent")), "SELECT 1").await.unwrap_err();
    assert!(matches!(named, OpenError::PasswordFile(_)) && named.is_config(), "{named:?}");
}

#[tokio::test]
#[ignore = "needs postgres: cargo xtask test"]
async fn the_server_gets_its_settings() {
    let server = Postgres::start();
    let params = "search_path=web,%20public&x.y=a%5C%20b&options=-c%20work_mem=7MB&statement_timeout=1234";
    let settings = parsed(&server.url(params));
    for (name, expected) in [
        ("search_path", "web, public"),
        ("x.y", "a\\ b"),
        ("work_mem", "7MB"),
        ("statement_timeout", "1234ms"),
        ("application_name", "cloakroom"),
        ("client_encoding", "UTF8"),
    ] {
        assert_eq!(selected(&settings, &format!("SHOW {name}")).await.unwrap(), expected, "{name}");
    }
    let named = parsed(&server.url("fallback_application_name=a&application_name=b"));
    assert_eq!(selected(&named, "SHOW application_name").await.unwrap(), "b");
    let unknown = selected(&parsed(&server.url("no_such_setting=1")), "SELECT 1").await.unwrap_err();
    assert_eq!(unknown.driver_error().unwrap().code().unwrap().code(), "42704");
    // No setting that a connection may have is taken for a misspelt parameter.
    let names = server.sql("SELECT lower(name) FROM pg_settings WHERE context IN ('user', 'superuser', 'backend', 'superuser-backend')");
    let is_taken = |name: &&str| match Settings::parse_in(&format!("{name}=1"), &bare()) {
        Err(error) => matches!(error, SettingsError::Unknown { .. } | SettingsError::Name { .. }),
        Ok(_) => false,
    };
    assert_eq!(names.lines().filter(is_taken).collect::<Vec<_>>(), [""; 0]);
    assert!(names.lines().count() > 100, "{names}");
}
#[tokio::test]
#[ignore = "needs postgres: cargo xtask test"]
async fn a_stopped_host_is_skipped_and_tried_last() {
    let server = Postgres::start();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let settings = parsed(&Postgres::url_at(&format!("{free},{}", server.address()), ""));
    assert_eq!(selected(&settings, "SHOW port").await.unwrap(), port(&server));
    assert_eq!(settings.order(), [1, 0]);
    let only = parsed(&Postgres::url_at(&free.to_string(), ""));
    let refusal = only.open().await.map(drop).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "host 1: the connection failed; check that the server runs and can be reached"
    );
    assert!(!refusal.is_config() && !refusal.is_timeout(), "{refusal:?}");
    let unknown = parsed(&Postgres::url_at("no-such-host.invalid", "")).open().await.map(drop).unwrap_err();
    assert!(matches!(unknown, OpenError::Lookup { host: 1, .. }), "{unknown:?}");
    // A refused login ends the search: the next host would count it too.
    let wrong = Postgres::url_at(&format!("{},{free}", server.address()), "password=wrong");
    let refusal = parsed(&wrong).open().await.map(drop).unwrap_err();
    assert_eq!(refusal.driver_error().unwrap().code().unwrap().code(), "28P01");
}

#[tokio::test]
#[ignore = "needs postgres: cargo xtask test"]
async fn a_silent_host_is_left_in_time() {
    let (silent, server) = (Postgres::start(), Postgres::start());
    silent.pause();
    let limit = Duration::from_millis(400);
    let start = Instant::now();
    let only = parsed(&silent.url("connect_timeout=400ms"));
    let late = only.open().await.map(drop).unwrap_err();
    assert!(matches!(late, OpenError::Late { host: 1, .. }) && late.is_timeout(), "{late:?}");
    assert!(start.elapsed() >= limit, "{:?}", start.elapsed());
    let hosts = format!("{},{}", silent.address(), server.address());
    let both = parsed(&Postgres::url_at(&hosts, "connect_timeout=400ms"));
    // A caller that gives up leaves the silent host for later.
    let given_up = tokio::time::timeout(Duration::from_millis(300), both.open()).await;
    assert!(given_up.is_err());
    assert_eq!(both.order(), [1, 0]);
    assert_eq!(selected(&both, "SHOW port").await.unwrap(), port(&server));
    silent.resume();
}

#[tokio::test]
#[ignore = "needs postgres: cargo xtask test"]
async fn target_session_attrs_chooses_the_server() {
    let primary = Postgres::start();
    let standby = primary.standby();
    let at = |hosts: &[&Postgres], target: &str| {
        let hosts: Vec<_> = hosts.iter().map(|server| server.address().to_string()).collect();
        parsed(&Postgres::url_at(&hosts.join(","), &format!("target_session_attrs={target}")))
    };
    let (first, second) = (port(&primary), port(&standby));
    for (target, hosts, expected) in [
        ("any", [&standby, &primary], &second),
        ("read-write", [&standby, &primary], &first),
        ("primary", [&standby, &primary], &first),
        ("standby", [&primary, &standby], &second),
        ("read-only", [&primary, &standby], &second),
        ("prefer-standby", [&primary, &standby], &second),
        ("prefer-standby", [&primary, &primary], &first),
        // The default of several hosts is read-write.
        ("", [&standby, &primary], &first),
    ] {
        assert_eq!(&selected(&at(&hosts, target), "SHOW port").await.unwrap(), expected, "{target}");
    }
    let refusal = at(&[&standby], "read-write").open().await.map(drop).unwrap_err();
    assert!(matches!(refusal, OpenError::Target { host: 1, expected: "read-write" }), "{refusal:?}");
    primary.sql("ALTER DATABASE app SET default_transaction_read_only = on");
    let refusal = at(&[&primary], "read-write").open().await.map(drop).unwrap_err();
    assert!(matches!(refusal, OpenError::Target { .. }), "{refusal:?}");
    assert_eq!(selected(&at(&[&primary], "primary"), "SHOW port").await.unwrap(), first);
    assert_eq!(selected(&at(&[&primary], "read-only"), "SHOW port").await.unwrap(), first);
}

#[tokio::test]
#[ignore = "needs postgres: cargo xtask test"]
async fn notifications_reach_the_receiver() {
    let server = Postgres::start();
    let settings = parsed(&server.url(""));
    let (connection, mut messages) = settings.open_listening().await.unwrap();
    connection.client.batch_execute("LISTEN ended").await.unwrap();
    selected(&settings, "NOTIFY ended, 'now'").await.unwrap();
    let message = tokio::time::timeout(Duration::from_secs(10), messages.recv()).await.unwrap().unwrap();
    let AsyncMessage::Notification(notification) = message else { panic!("{message:?}") };
    assert_eq!((notification.channel(), notification.payload()), ("ended", "now"));
    // The server answers no more, so only the drop can end the task, and with it the sender.
    server.pause();
    let unanswered = connection.client.simple_query("SELECT 1");
    assert!(tokio::time::timeout(Duration::from_millis(50), unanswered).await.is_err());
    drop(connection);
    assert!(tokio::time::timeout(Duration::from_secs(10), messages.recv()).await.unwrap().is_none());
}

#[tokio::test]
#[ignore = "needs postgres: cargo xtask test"]
async fn a_dropped_connection_ends_on_the_server() {
    fn on_any_thread<T: Send>(future: T) -> T {
        future
    }
    let server = Postgres::start();
    let settings = parsed(&server.url(""));
    let (dropped, closed) = (on_any_thread(settings.open()).await.unwrap(), settings.open().await.unwrap());
    assert!(!dropped.is_closed());
    drop(dropped);
    closed.close().await;
    let count = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{}'", Postgres::USER);
    let start = Instant::now();
    while server.sql(&count).trim() != "0" {
        assert!(start.elapsed() < Duration::from_secs(10), "the connections stay open");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let lost = settings.open().await.unwrap();
    server.sql(&format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{}'",
        Postgres::USER
    ));
    while !lost.is_closed() {
        assert!(start.elapsed() < Duration::from_secs(20), "the end is not noticed");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[test]
fn a_self_signed_certificate_of_sslrootcert_is_trusted() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let [own, foreign] = [&one, &other].map(|folder| Certificates::write(folder.path()).authority);
    let der = |path| crate::tls::certificates_of(&fs::read(path).unwrap()).unwrap().remove(0);
    let verified = |mode: &str, trusted: &Path, name: &'static str| {
        let settings = parsed(&format!("sslmode={mode} sslrootcert='{}'", trusted.display()));
        let verifier = settings.ssl.verifier(crate::tls::cryptography()).unwrap();
        let name = ServerName::try_from(name).unwrap();
        verifier.verify_server_cert(&der(&own), &[], &name, &[], UnixTime::now()).map(drop)
    };
    assert_eq!(verified("verify-ca", &own, "db"), Ok(()));
    let foreign = verified("verify-ca", &foreign, "db").unwrap_err();
    assert!(matches!(foreign, rustls::Error::InvalidCertificate(_)), "{foreign}");
    // The certificate has no name.
    let unnamed = verified("verify-full", &own, "db").unwrap_err();
    assert!(unnamed.to_string().contains("not valid for name"), "{unnamed}");
}
