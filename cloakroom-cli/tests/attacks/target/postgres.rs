//! One PostgreSQL for all rows. Each row has a table of its own.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::LazyLock;

use crate::site::DEADLINE;
use crate::visitor::PATIENCE;
use cloakroom::{Clock, ErrorKind, PostgresProvider, providers::AnyProvider};
use data_encoding::HEXLOWER;
use servers::{Certificates, Postgres, PostgresOptions, Proxy};

static SERVER: LazyLock<Postgres> = LazyLock::new(|| {
    // Every provider of a row has a pool of its own.
    let settings = vec!["max_connections=500".to_owned()];
    Postgres::with(PostgresOptions { tls: true, settings, ..PostgresOptions::default() })
});

pub(super) fn address() -> SocketAddr {
    SERVER.address()
}

pub(super) async fn open(table: &str, clock: &Clock, port: Option<u16>) -> AnyProvider {
    let limit = if port.is_none() { PATIENCE } else { DEADLINE };
    let port = port.unwrap_or_else(|| SERVER.address().port());
    let url = Postgres::url_at(&format!("127.0.0.1:{port}"), "");
    let builder = PostgresProvider::builder(&url).table(table).clock(clock.clone()).deadline(limit);
    AnyProvider::new(builder.connect().await.expect("the server takes the connection"))
}

pub(super) fn dump(table: &str) -> Vec<u8> {
    SERVER.sql(&format!("SELECT * FROM {table}")).into_bytes()
}

pub(super) fn plant(table: &str, bytes: &[u8]) {
    SERVER.sql(&format!("UPDATE {table} SET record = '\\x{}'", HEXLOWER.encode(bytes)));
}

/// Asserts that the certificate is checked: its authority, and the server's name in it.
pub(crate) async fn certificates_are_checked() {
    let folder = tempfile::tempdir().expect("a folder");
    let stranger = Certificates::write(folder.path());
    let connect = async |place: &str, authority: &Path| {
        let authority = authority.display().to_string().replace('/', "%2F");
        let params = format!("sslmode=verify-full&sslrootcert={authority}");
        PostgresProvider::connect(&Postgres::url_at(place, &params)).await
    };
    let (ours, place) = (SERVER.certificates(), format!("localhost:{}", SERVER.address().port()));
    connect(&place, &ours.authority).await.expect("the right authority");
    let elsewhere = Proxy::under(Ipv4Addr::new(127, 0, 0, 2), SERVER.address());
    let by_another_name = elsewhere.address().to_string();
    for (place, authority) in [(&place, &stranger.authority), (&by_another_name, &ours.authority)] {
        let refused = connect(place, authority).await.expect_err("a wrong certificate");
        assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
        let causes = std::iter::successors(Some(&refused as &dyn Error), |error| (*error).source());
        let shown: String = causes.map(|error| format!("{error}; ")).collect();
        assert!(shown.contains("invalid peer certificate"), "the refusal has another reason: {shown}");
    }
}
