//! The server shared by all tests of this program that change no setting of it.

use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::Duration;

use cloakroom::{PostgresProvider, Result};
use servers::{Postgres, PostgresOptions};

use crate::sql::SqlServer;
pub(crate) use crate::sql::a_table;

static SERVER: LazyLock<Postgres> = LazyLock::new(|| {
    let settings = vec!["max_connections=500".to_owned()];
    Postgres::with(PostgresOptions { tls: true, settings, ..PostgresOptions::default() })
});

pub(crate) fn shared() -> &'static Postgres {
    &SERVER
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

impl SqlServer for Postgres {
    type Provider = PostgresProvider;

    fn address(&self) -> SocketAddr {
        self.address()
    }

    fn sql(&self, statements: &str) -> String {
        self.sql(statements)
    }

    fn url_at(&self, address: SocketAddr, params: &str) -> String {
        Postgres::url_at(&address.to_string(), params)
    }

    async fn connect(url: &str, limit: Duration) -> Result<PostgresProvider> {
        PostgresProvider::builder(url).deadline(limit).connect_timeout(limit).connect().await
    }
}
