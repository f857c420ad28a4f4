//! The server shared by all tests of this program that change no setting of it.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

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
