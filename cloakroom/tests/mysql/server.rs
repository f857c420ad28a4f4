//! The server shared by all tests of this program that change no setting of it.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use cloakroom::MySqlProvider;
use servers::{MariaDb, MariaDbOptions};

static SERVER: LazyLock<MariaDb> =
    LazyLock::new(|| MariaDb::with(MariaDbOptions { tls: true, ..MariaDbOptions::default() }));

pub(crate) fn shared() -> &'static MariaDb {
    &SERVER
}

/// Returns a name that no other table has.
pub(crate) fn a_table() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Returns the statements that create the tables of a provider, each with its semicolon.
pub(crate) fn schema(table: &str) -> String {
    MySqlProvider::schema(table).unwrap().iter().map(|statement| format!("{statement};\n")).collect()
}

pub(crate) fn plain() -> String {
    shared().dsn("")
}

/// Returns a data source name with TLS, verified against the tests' own authority.
pub(crate) fn over_tls() -> String {
    let authority = shared().certificates().authority.display().to_string().replace('/', "%2F");
    MariaDb::dsn_at(
        &format!("tcp(localhost:{})", shared().address().port()),
        &format!("tls=true&ssl-ca={authority}"),
    )
}

pub(crate) fn over_socket() -> String {
    MariaDb::dsn_at(&format!("unix({})", shared().socket().display()), "")
}
