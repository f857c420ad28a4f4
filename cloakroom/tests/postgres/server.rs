//! The server shared by all tests of this program that change no setting of it.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use cloakroom::PostgresProvider;
use servers::{Postgres, PostgresOptions};

static SERVER: LazyLock<Postgres> = LazyLock::new(|| {
    let settings = vec!["max_connections=500".to_owned()];
    Postgres::with(PostgresOptions { tls: true, settings, ..PostgresOptions::default() })
});

pub(crate) fn shared() -> &'static Postgres {
    &SERVER
}

/// Returns a name that no other table has.
pub(crate) fn a_table() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

pub(crate) fn plain() -> String {
    shared().url("")
}

pub(crate) fn url_with(params: &str) -> String {
    shared().url(params)
}

/// Returns the statements that create the tables of a provider, each with its semicolon.
pub(crate) fn schema(table: &str) -> String {
    PostgresProvider::schema(table).unwrap().iter().map(|statement| format!("{statement};\n")).collect()
}

/// Returns a URL with TLS, verified against the tests' own authority.
pub(crate) fn over_tls() -> String {
    let authority = shared().certificates().authority.display().to_string().replace('/', "%2F");
    let place = format!("localhost:{}", shared().address().port());
    Postgres::url_at(&place, &format!("sslmode=verify-full&sslrootcert={authority}"))
}

pub(crate) fn over_socket() -> String {
    let folder = shared().socket_folder().display().to_string().replace('/', "%2F");
    Postgres::url_at(&format!("{folder}:{}", shared().address().port()), "")
}
