//! The server shared by all tests of this program that change no setting of it.

use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::Duration;

use cloakroom::{MySqlProvider, Result};
use servers::{MariaDb, MariaDbOptions};

use crate::sql::SqlServer;
pub(crate) use crate::sql::a_table;

static SERVER: LazyLock<MariaDb> =
    LazyLock::new(|| MariaDb::with(MariaDbOptions { tls: true, ..MariaDbOptions::default() }));

pub(crate) fn shared() -> &'static MariaDb {
    &SERVER
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

impl SqlServer for MariaDb {
    type Provider = MySqlProvider;

    fn address(&self) -> SocketAddr {
        self.address()
    }

    fn sql(&self, statements: &str) -> String {
        self.sql(statements)
    }

    fn url_at(&self, address: SocketAddr, params: &str) -> String {
        MariaDb::dsn_at(&format!("tcp({address})"), params)
    }

    async fn connect(url: &str, limit: Duration) -> Result<MySqlProvider> {
        MySqlProvider::builder(url).deadline(limit).connect_timeout(limit).connect().await
    }
}
