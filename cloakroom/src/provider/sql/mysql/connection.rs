//! Connections to the server. Every call reads its reply to the end, or the connection is closed.

use std::time::{Duration, Instant};

use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlQueryResult, MySqlRow, MySqlSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection as _, Executor, SqlSafeStr, SqlStr};

pub(super) use super::bound::Arguments;

use super::dsn::{Dsn, DsnAddress, Tls};
use super::error::MySqlError;
use super::session::{self, ServerFacts};
use super::variables;
use crate::provider::sql::pool::{Lease, SqlConnector};

/// The connector of the pool: the server's address, the settings, and the time limit for connecting.
pub(super) struct MySqlConnector {
    options: MySqlConnectOptions,
    pub(super) dsn: Dsn,
    pub(super) connect_timeout: Duration,
}

/// A connection, and the facts about the server that it read when it was opened.
pub(super) struct ServerConnection {
    raw: MySqlConnection,
    pub(super) session: ServerFacts,
    /// The time since which statements are sent unprepared.
    unprepared: Option<Instant>,
}

impl ServerConnection {
    /// The time for which statements are sent unprepared after the server has refused to prepare one.
    const UNPREPARED_TIME: Duration = Duration::from_secs(60);

    fn prepares(&mut self) -> bool {
        self.unprepared = self.unprepared.filter(|since| since.elapsed() < Self::UNPREPARED_TIME);
        self.unprepared.is_none()
    }

    /// Sends statements unprepared from now on.
    fn unprepare(&mut self, error: &MySqlError) {
        self.unprepared = Some(Instant::now());
        tracing::warn!(
            %error,
            "this connection sends statements unprepared for a minute; raise max_prepared_stmt_count, or lower `pool`"
        );
    }

    /// Returns `sql` with its values inlined, for a server that prepares no statement.
    fn inlined(&self, sql: &SqlStr, bound: &Arguments<'_>) -> Result<SqlStr, MySqlError> {
        let text = bound.inlined(sql.as_str());
        let limit = self.session.max_packet;
        if text.len() >= limit {
            let reason = "max_allowed_packet, for a statement that the server does not prepare: see max_prepared_stmt_count";
            return Err(MySqlError::TooLarge { limit: limit / 2, found: text.len() / 2, reason });
        }
        Ok(AssertSqlSafe(text).into_sql_str())
    }
}

impl MySqlConnector {
    pub(super) fn new(dsn: Dsn, connect_timeout: Duration) -> Self {
        for variable in dsn.params.variables.iter().filter_map(|set| variables::required(&set.name)) {
            tracing::warn!(variable, "the data source name sets a variable that the provider overrides");
        }
        MySqlConnector { options: options(&dsn), dsn, connect_timeout }
    }

    async fn connected(&self) -> Result<ServerConnection, MySqlError> {
        let mut raw = self.options.connect().await?;
        let session = session::set_up(&mut raw, &self.dsn.params).await?;
        Ok(ServerConnection { raw, session, unprepared: None })
    }
}

fn options(dsn: &Dsn) -> MySqlConnectOptions {
    // Switch off the variables that the driver would set. `session` sets all variables and reads them back.
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
        DsnAddress::Tcp { host, port } => options.host(host).port(*port),
        DsnAddress::Unix { socket } => options.socket(socket),
    };
    let options = options.ssl_mode(match dsn.params.tls {
        // Go's driver encrypts nothing by default.
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

impl SqlConnector for MySqlConnector {
    type Connection = ServerConnection;
    type Error = MySqlError;

    async fn connect(&self) -> Result<ServerConnection, MySqlError> {
        let limit = self.connect_timeout;
        let connected = tokio::time::timeout(limit, self.connected()).await;
        connected.unwrap_or(Err(MySqlError::ConnectTimeout { limit }))
    }

    async fn is_alive(&self, connection: &mut ServerConnection) -> bool {
        // A firewall may drop an idle connection silently. Then a ping gets no answer at all.
        const PATIENCE: Duration = Duration::from_millis(500);
        tokio::time::timeout(PATIENCE, connection.raw.ping()).await.is_ok_and(|answer| answer.is_ok())
    }

    fn close(&self, connection: ServerConnection) {
        // The server logs a connection that ends without a goodbye as aborted.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(tokio::time::timeout(Duration::from_secs(1), connection.raw.close()));
        }
    }
}

/// A leased connection.
pub(super) struct ConnectionLease<'a> {
    lease: Lease<'a, MySqlConnector>,
    held: ServerState,
}

/// State that the server keeps for a connection until a statement ends it or the connection is closed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum ServerState {
    Nothing,
    Lock,
    /// An open transaction. A closed connection rolls it back.
    Transaction,
}

impl<'a> ConnectionLease<'a> {
    pub(super) fn new(lease: Lease<'a, MySqlConnector>) -> Self {
        ConnectionLease { lease, held: ServerState::Nothing }
    }

    /// Notes that the connection may hold a lock. It goes back to the pool only if the statement after [`release_next`](Self::release_next) succeeds.
    /// Otherwise it is closed, which releases the lock.
    pub(super) fn hold_lock(&mut self) {
        self.held = ServerState::Lock;
    }

    /// Notes that the connection has an open transaction, which the server rolls back if the connection is closed.
    pub(super) fn hold_transaction(&mut self) {
        self.held = ServerState::Transaction;
    }

    /// Notes that the next statement releases the lock or ends the transaction.
    pub(super) fn release_next(&mut self) {
        self.held = ServerState::Nothing;
    }

    /// Notes that the connection holds neither a lock nor a transaction.
    pub(super) fn hold_nothing(&mut self) {
        self.held = ServerState::Nothing;
        self.lease.finish();
    }

    /// Returns the facts about the server that this connection read when it was opened.
    pub(super) fn session(&self) -> Option<ServerFacts> {
        self.lease.connection().map(|connection| connection.session)
    }

    /// Runs `sql` and returns its rows.
    pub(super) async fn fetch(
        &mut self,
        sql: &SqlStr,
        bound: Arguments<'_>,
    ) -> Result<Vec<MySqlRow>, MySqlError> {
        let Some(connection) = self.lease.start() else { return Err(MySqlError::Protocol) };
        if connection.prepares() {
            // Fetch all rows: the next statement would read the rest of an unfinished reply.
            let answer = connection.raw.fetch_all(sqlx::query_with(sql.clone(), bound.encoded())).await;
            match answer.map_err(MySqlError::from) {
                Err(error) if error.cannot_be_prepared() => connection.unprepare(&error),
                answer => return self.finish(answer),
            }
        }
        let answer = match connection.inlined(sql, &bound) {
            Ok(text) => connection.raw.fetch_all(sqlx::raw_sql(text)).await.map_err(MySqlError::from),
            Err(error) => Err(error),
        };
        self.finish(answer)
    }

    /// Runs `sql` and returns the number of rows that it matched.
    pub(super) async fn execute(&mut self, sql: &SqlStr, bound: Arguments<'_>) -> Result<u64, MySqlError> {
        let Some(connection) = self.lease.start() else { return Err(MySqlError::Protocol) };
        if connection.prepares() {
            let answer = connection.raw.execute(sqlx::query_with(sql.clone(), bound.encoded())).await;
            match answer.map_err(MySqlError::from) {
                Err(error) if error.cannot_be_prepared() => connection.unprepare(&error),
                answer => return self.finish(answer.map(|done: MySqlQueryResult| done.rows_affected())),
            }
        }
        let answer = match connection.inlined(sql, &bound) {
            Ok(text) => connection.raw.execute(sqlx::raw_sql(text)).await.map_err(MySqlError::from),
            Err(error) => Err(error),
        };
        self.finish(answer.map(|done| done.rows_affected()))
    }

    /// Runs a statement without preparing it: the start and end of a transaction, and `CREATE TABLE`.
    pub(super) async fn command(&mut self, sql: SqlStr) -> Result<(), MySqlError> {
        let Some(connection) = self.lease.start() else { return Err(MySqlError::Protocol) };
        let answer = connection.raw.execute(sqlx::raw_sql(sql)).await.map_err(MySqlError::from);
        self.finish(answer).map(drop)
    }

    /// Prepares `sql` without running it, to check that the server would run it.
    pub(super) async fn prepare(&mut self, sql: &SqlStr) -> Result<(), MySqlError> {
        let Some(connection) = self.lease.start() else { return Err(MySqlError::Protocol) };
        let answer = connection.raw.prepare(sql.clone()).await.map(drop).map_err(MySqlError::from);
        self.finish(answer)
    }

    fn finish<T>(&mut self, answer: Result<T, MySqlError>) -> Result<T, MySqlError> {
        let goes_on = answer.as_ref().err().is_none_or(MySqlError::keeps_connection);
        if self.held == ServerState::Nothing && goes_on {
            self.lease.finish();
        }
        match answer {
            Err(error) if self.held == ServerState::Transaction && error.is_lost_connection() => {
                Err(MySqlError::Undone(Box::new(error)))
            }
            answer => answer,
        }
    }
}
