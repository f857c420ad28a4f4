//! A connection of the pool, and the only two ways to use it: each reads its reply to the end or gives the connection up.

use std::time::{Duration, Instant};

use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlQueryResult, MySqlRow, MySqlSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection as _, Executor, SqlSafeStr, SqlStr};

pub(super) use super::bound::Arguments;

use super::dsn::{Address, Dsn, Tls};
use super::error::MySqlError;
use super::session::{self, Session};
use super::variables;
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
    /// Since when the server prepares no statement.
    unprepared: Option<Instant>,
}

impl Connection {
    /// How long statements go unprepared before one is prepared again.
    const UNPREPARED: Duration = Duration::from_secs(60);

    fn prepares(&mut self) -> bool {
        self.unprepared = self.unprepared.filter(|since| since.elapsed() < Self::UNPREPARED);
        self.unprepared.is_none()
    }

    /// Goes without prepared statements from now on.
    fn unprepare(&mut self, error: &MySqlError) {
        self.unprepared = Some(Instant::now());
        tracing::warn!(
            %error,
            "statements go unprepared on this connection for a minute; raise max_prepared_stmt_count, or lower `pool`"
        );
    }

    /// `sql` with its values in it, for a server that prepares no statement.
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

impl Server {
    pub(super) fn new(dsn: Dsn, connect_timeout: Duration) -> Self {
        for variable in dsn.params.variables.iter().filter_map(|set| variables::required(&set.name)) {
            tracing::warn!(
                variable,
                "the data source name sets a variable that the provider sets to its own value"
            );
        }
        Server { options: options(&dsn), dsn, connect_timeout }
    }

    async fn connected(&self) -> Result<Connection, MySqlError> {
        let mut raw = self.options.connect().await?;
        let session = session::set_up(&mut raw, &self.dsn.params).await?;
        Ok(Connection { raw, session, unprepared: None })
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

/// A leased connection.
pub(super) struct Link<'a> {
    lease: Lease<'a, Server>,
    held: Held,
}

/// State that the server keeps for a connection until it is given back or the connection ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Held {
    Nothing,
    Lock,
    /// Its changes are undone unless they are committed.
    Transaction,
}

impl<'a> Link<'a> {
    pub(super) fn new(lease: Lease<'a, Server>) -> Self {
        Link { lease, held: Held::Nothing }
    }

    /// From now on the connection may hold a lock: it goes back to the pool only if the statement after [`let_go`](Self::let_go) succeeds.
    /// Otherwise it is closed, which frees the lock.
    pub(super) fn hold_lock(&mut self) {
        self.held = Held::Lock;
    }

    /// The same for a transaction, which a closed connection rolls back.
    pub(super) fn hold_transaction(&mut self) {
        self.held = Held::Transaction;
    }

    /// The next statement gives back what is held.
    pub(super) fn let_go(&mut self) {
        self.held = Held::Nothing;
    }

    /// There is nothing to give back after all.
    pub(super) fn settle(&mut self) {
        self.held = Held::Nothing;
        self.lease.settle();
    }

    /// What was learned of the server when this connection was made.
    pub(super) fn session(&self) -> Option<Session> {
        self.lease.connection().map(|connection| connection.session)
    }

    /// The rows that `sql` answers.
    pub(super) async fn fetch(
        &mut self,
        sql: &SqlStr,
        bound: Arguments<'_>,
    ) -> Result<Vec<MySqlRow>, MySqlError> {
        let Some(connection) = self.lease.begin() else { return Err(MySqlError::Protocol) };
        if connection.prepares() {
            // All of them: a reply that is left half-read would be the next statement's.
            let answer = connection.raw.fetch_all(sqlx::query_with(sql.clone(), bound.encoded())).await;
            match answer.map_err(MySqlError::from) {
                Err(error) if error.is_unprepared() => connection.unprepare(&error),
                answer => return self.settled(answer),
            }
        }
        let answer = match connection.inlined(sql, &bound) {
            Ok(text) => connection.raw.fetch_all(sqlx::raw_sql(text)).await.map_err(MySqlError::from),
            Err(error) => Err(error),
        };
        self.settled(answer)
    }

    /// How many rows `sql` has matched.
    pub(super) async fn execute(&mut self, sql: &SqlStr, bound: Arguments<'_>) -> Result<u64, MySqlError> {
        let Some(connection) = self.lease.begin() else { return Err(MySqlError::Protocol) };
        if connection.prepares() {
            let answer = connection.raw.execute(sqlx::query_with(sql.clone(), bound.encoded())).await;
            match answer.map_err(MySqlError::from) {
                Err(error) if error.is_unprepared() => connection.unprepare(&error),
                answer => return self.settled(answer.map(|done: MySqlQueryResult| done.rows_affected())),
            }
        }
        let answer = match connection.inlined(sql, &bound) {
            Ok(text) => connection.raw.execute(sqlx::raw_sql(text)).await.map_err(MySqlError::from),
            Err(error) => Err(error),
        };
        self.settled(answer.map(|done| done.rows_affected()))
    }

    /// A statement that is not prepared: those around a transaction, and the one that makes the table.
    pub(super) async fn command(&mut self, sql: SqlStr) -> Result<(), MySqlError> {
        let Some(connection) = self.lease.begin() else { return Err(MySqlError::Protocol) };
        let answer = connection.raw.execute(sqlx::raw_sql(sql)).await.map_err(MySqlError::from);
        self.settled(answer).map(drop)
    }

    /// Prepares `sql` without running it, by which the server tells whether it could.
    pub(super) async fn prepare(&mut self, sql: &SqlStr) -> Result<(), MySqlError> {
        let Some(connection) = self.lease.begin() else { return Err(MySqlError::Protocol) };
        let answer = connection.raw.prepare(sql.clone()).await.map(drop).map_err(MySqlError::from);
        self.settled(answer)
    }

    fn settled<T>(&mut self, answer: Result<T, MySqlError>) -> Result<T, MySqlError> {
        let goes_on = answer.as_ref().err().is_none_or(MySqlError::leaves_connection);
        if self.held == Held::Nothing && goes_on {
            self.lease.settle();
        }
        match answer {
            Err(error) if self.held == Held::Transaction && error.is_lost_connection() => {
                Err(MySqlError::Undone(Box::new(error)))
            }
            answer => answer,
        }
    }
}
