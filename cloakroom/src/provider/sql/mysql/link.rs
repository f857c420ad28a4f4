//! A connection of the pool, and the only two ways to use it: each reads its reply to the end or gives the connection up.

use std::time::Duration;

use sqlx::mysql::{
    MySqlArguments, MySqlConnectOptions, MySqlConnection, MySqlQueryResult, MySqlRow, MySqlSslMode,
};
use sqlx::{Arguments as _, ConnectOptions, Connection as _, Executor, SqlStr};

use super::dsn::{Address, Dsn, Tls};
use super::error::MySqlError;
use super::session::{self, Session};
use crate::provider::sql::pool::{Connector, Lease};

/// What makes connections: whither, with what settings, and how long it may take.
pub(super) struct Server {
    options: MySqlConnectOptions,
    pub(super) dsn: Dsn,
    pub(super) connect_timeout: Duration,
}

/// A connection, and what was learned of the server when it was made.
pub(super) struct Connection {
    raw: MySqlConnection,
    pub(super) session: Session,
}

impl Server {
    pub(super) fn new(dsn: Dsn, connect_timeout: Duration) -> Self {
        Server { options: options(&dsn), dsn, connect_timeout }
    }

    async fn connected(&self) -> Result<Connection, MySqlError> {
        let mut raw = self.options.connect().await?;
        let session = session::set_up(&mut raw, &self.dsn.params).await?;
        Ok(Connection { raw, session })
    }
}

fn options(dsn: &Dsn) -> MySqlConnectOptions {
    // The driver would set variables of its own; `session` sets all there are, and looks at what it got.
    let options = MySqlConnectOptions::new()
        .disable_statement_logging()
        .set_names(false)
        .timezone(None)
        .pipes_as_concat(false)
        .no_engine_substitution(false)
        .enable_cleartext_plugin(dsn.params.cleartext_passwords)
        .username(dsn.user.as_deref().unwrap_or_default())
        .database(&dsn.database);
    let options = match &dsn.password {
        Some(password) => options.password(password),
        None => options,
    };
    let options = match &dsn.address {
        Address::Tcp { host, port } => options.host(host).port(*port),
        Address::Unix { socket } => options.socket(socket),
    };
    let options = options.ssl_mode(match dsn.params.tls {
        // As the driver has it: nothing is encrypted unless it is asked for.
        None | Some(Tls::Off) => MySqlSslMode::Disabled,
        Some(Tls::Preferred) => MySqlSslMode::Preferred,
        Some(Tls::Unverified) => MySqlSslMode::Required,
        Some(Tls::Authority) => MySqlSslMode::VerifyCa,
        Some(Tls::Verified) => MySqlSslMode::VerifyIdentity,
    });
    let params = &dsn.params;
    let options = params.ca.iter().fold(options, |options, file| options.ssl_ca(file));
    let options = params.certificate.iter().fold(options, |options, file| options.ssl_client_cert(file));
    params.key.iter().fold(options, |options, file| options.ssl_client_key(file))
}

impl Connector for Server {
    type Connection = Connection;
    type Error = MySqlError;

    async fn connect(&self) -> Result<Connection, MySqlError> {
        let limit = self.connect_timeout;
        let connected = tokio::time::timeout(limit, self.connected()).await;
        connected.unwrap_or(Err(MySqlError::ConnectTimeout { limit }))
    }

    async fn stands(&self, connection: &mut Connection) -> bool {
        // Behind a firewall that has forgotten it, a connection takes everything and never answers.
        const PATIENCE: Duration = Duration::from_millis(500);
        tokio::time::timeout(PATIENCE, connection.raw.ping()).await.is_ok_and(|answer| answer.is_ok())
    }

    fn close(&self, connection: Connection) {
        // A courtesy to the server, whose log calls a connection that ends without it an aborted one.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(tokio::time::timeout(Duration::from_secs(1), connection.raw.close()));
        }
    }
}

/// What a statement's `?` stand for, in their order.
#[derive(Default)]
pub(super) struct Arguments(MySqlArguments);

impl Arguments {
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.add(bytes);
    }

    pub(super) fn optional(&mut self, bytes: Option<&[u8]>) {
        self.add(bytes);
    }

    pub(super) fn number(&mut self, number: u64) {
        self.add(number);
    }

    pub(super) fn text(&mut self, text: &str) {
        self.add(text);
    }

    /// The time that deadlines are compared with; `None` for the server's own.
    pub(super) fn now(&mut self, now: Option<i64>) {
        self.add(now);
    }

    fn add<'q, T: sqlx::Encode<'q, sqlx::MySql> + sqlx::Type<sqlx::MySql>>(&mut self, value: T) {
        // Numbers, texts and bytes encode without fail; were one left out, the driver would refuse the statement for its count.
        let _ = self.0.add(value);
    }
}

/// A leased connection.
pub(super) struct Link<'a> {
    lease: Lease<'a, Server>,
    held: bool,
}

impl<'a> Link<'a> {
    pub(super) fn new(lease: Lease<'a, Server>) -> Self {
        Link { lease, held: false }
    }

    /// From now on the connection has something of ours, an open transaction or a lock: it goes back to the pool only if
    /// the statement after [`let_go`](Self::let_go) succeeds, and otherwise is closed, which ends both.
    pub(super) fn hold(&mut self) {
        self.held = true;
    }

    /// The next statement gives back what is held.
    pub(super) fn let_go(&mut self) {
        self.held = false;
    }

    /// There is nothing to give back after all.
    pub(super) fn settle(&mut self) {
        self.held = false;
        self.lease.settle();
    }

    /// What was learned of the server when this connection was made.
    pub(super) fn session(&self) -> Option<Session> {
        self.lease.connection().map(|connection| connection.session)
    }

    /// The rows that the prepared `sql` answers.
    pub(super) async fn fetch(
        &mut self,
        sql: &SqlStr,
        bound: Arguments,
    ) -> Result<Vec<MySqlRow>, MySqlError> {
        let Some(connection) = self.lease.begin() else { return Err(MySqlError::Protocol) };
        // All of them: a reply that is left half-read would be the next statement's.
        let answer = connection.raw.fetch_all(sqlx::query_with(sql.clone(), bound.0)).await;
        self.settled(answer)
    }

    /// How many rows the prepared `sql` has matched.
    pub(super) async fn execute(&mut self, sql: &SqlStr, bound: Arguments) -> Result<u64, MySqlError> {
        let Some(connection) = self.lease.begin() else { return Err(MySqlError::Protocol) };
        let answer = connection.raw.execute(sqlx::query_with(sql.clone(), bound.0)).await;
        self.settled(answer).map(|done: MySqlQueryResult| done.rows_affected())
    }

    /// A statement that is not prepared: those around a transaction, and the one that makes the table.
    pub(super) async fn command(&mut self, sql: SqlStr) -> Result<(), MySqlError> {
        let Some(connection) = self.lease.begin() else { return Err(MySqlError::Protocol) };
        let answer = connection.raw.execute(sqlx::raw_sql(sql)).await;
        self.settled(answer).map(drop)
    }

    fn settled<T>(&mut self, answer: Result<T, sqlx::Error>) -> Result<T, MySqlError> {
        let answer = answer.map_err(MySqlError::from);
        if !self.held && answer.as_ref().err().is_none_or(MySqlError::leaves_connection) {
            self.lease.settle();
        }
        answer
    }
}
