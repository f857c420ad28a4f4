//! Connections to the server, and the statements that are prepared on them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::TryStreamExt;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Statement};

use super::error::PostgresError;
use super::facts::{self, PostgresFacts};
use super::settings::{OpenConnection, Settings};
use super::statements::SqlText;
use super::value::SqlValue;
use crate::provider::sql::pool::{Lease, Recovery, SqlConnector};

/// The connector of the pool: the settings, and whether statements are prepared.
pub(super) struct PostgresConnector {
    pub(super) settings: Settings,
    /// True to prepare statements by name; `None` prepares them only where no pooler is in between.
    prepares: Option<bool>,
    /// True once a server has lost a prepared statement.
    has_lost_statement: AtomicBool,
}

/// A connection, and the facts about the server that it read when it was opened.
pub(super) struct PostgresConnection {
    raw: OpenConnection,
    pub(super) facts: PostgresFacts,
    /// The statements that the server has prepared; `None` if it prepares none by name.
    prepared: Option<HashMap<usize, Statement>>,
}

impl PostgresConnection {
    /// Runs `sql` and returns its rows. The reply is read to its end.
    async fn fetch(&mut self, sql: &SqlText, values: &[SqlValue<'_>]) -> Result<Vec<Row>, PostgresError> {
        match self.statement(sql, values).await? {
            Some(statement) => Ok(self.raw.client.query_raw(&statement, values).await?.try_collect().await?),
            None => self.query(sql.as_str(), values).await,
        }
    }

    /// Runs `sql` unprepared. Parse, Bind and Execute go out before one Sync, so that a pooler gives all three to one server.
    async fn query(&mut self, sql: &str, values: &[SqlValue<'_>]) -> Result<Vec<Row>, PostgresError> {
        let typed = values.iter().map(|value| (value, value.kind()));
        Ok(self.raw.client.query_typed_raw(sql, typed).await?.try_collect().await?)
    }

    /// Runs `sql` and returns the number of rows that it changed.
    async fn execute(&mut self, sql: &SqlText, values: &[SqlValue<'_>]) -> Result<u64, PostgresError> {
        if let Some(statement) = self.statement(sql, values).await? {
            return Ok(self.raw.client.execute_raw(&statement, values).await?);
        }
        let typed: Vec<_> = values.iter().map(|value| (value as &(dyn ToSql + Sync), value.kind())).collect();
        Ok(self.raw.client.execute_typed(sql.as_str(), &typed).await?)
    }

    /// Returns true if the server answers a ping in time. Replies to earlier calls come first.
    async fn answers(&self) -> bool {
        // A firewall may drop an idle connection silently. Then a ping gets no answer at all.
        const PATIENCE: Duration = Duration::from_millis(500);
        let ping = self.raw.client.check_connection();
        tokio::time::timeout(PATIENCE, ping).await.is_ok_and(|answer| answer.is_ok())
    }

    /// Returns the prepared statement of `sql`; `None` if statements are sent unprepared.
    async fn statement(
        &mut self,
        sql: &SqlText,
        values: &[SqlValue<'_>],
    ) -> Result<Option<Statement>, PostgresError> {
        let Some(prepared) = &mut self.prepared else { return Ok(None) };
        if let Some(statement) = prepared.get(&sql.number()) {
            return Ok(Some(statement.clone()));
        }
        let types: Vec<_> = values.iter().map(SqlValue::kind).collect();
        // Boxed: a statement is prepared once on each connection.
        let statement = Box::pin(self.raw.client.prepare_typed(sql.as_str(), &types)).await?;
        prepared.insert(sql.number(), statement.clone());
        Ok(Some(statement))
    }
}

impl PostgresConnector {
    pub(super) fn new(settings: Settings) -> Self {
        let prepares = settings.params.prepared_statements;
        PostgresConnector { settings, prepares, has_lost_statement: AtomicBool::new(false) }
    }

    /// Prepares no statement on further connections.
    fn unprepare(&self, error: &PostgresError) {
        if !self.has_lost_statement.swap(true, Ordering::Relaxed) {
            tracing::warn!(%error, "statements are sent unprepared from now on");
        }
    }
}

impl SqlConnector for PostgresConnector {
    type Connection = PostgresConnection;
    type Error = PostgresError;

    async fn connect(&self) -> Result<PostgresConnection, PostgresError> {
        let raw = self.settings.open().await?;
        let facts = facts::read(&raw.client).await?;
        let prepares =
            self.prepares.unwrap_or(facts.direct) && !self.has_lost_statement.load(Ordering::Relaxed);
        if facts.direct {
            facts::set_up(&raw.client).await?;
        }
        Ok(PostgresConnection { raw, facts, prepared: prepares.then(HashMap::new) })
    }

    fn is_closed(&self, connection: &PostgresConnection) -> bool {
        connection.raw.is_closed()
    }

    async fn is_alive(&self, connection: &mut PostgresConnection) -> bool {
        connection.answers().await
    }

    fn recover(&self, connection: PostgresConnection) -> Option<Recovery<PostgresConnection>> {
        // The driver discards the reply. A login costs the server and this process far more than this round trip.
        Some(Box::pin(async move { connection.answers().await.then_some(connection) }))
    }

    fn close(&self, connection: PostgresConnection) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(connection.raw.close());
        }
    }
}

/// A leased connection.
pub(super) struct PostgresLease<'a>(Lease<'a, PostgresConnector>);

impl<'a> PostgresLease<'a> {
    pub(super) fn new(lease: Lease<'a, PostgresConnector>) -> Self {
        PostgresLease(lease)
    }

    /// Returns the facts about the server that this connection read when it was opened.
    pub(super) fn facts(&self) -> Option<&PostgresFacts> {
        self.0.connection().map(|connection| &connection.facts)
    }

    /// Runs `sql` and returns its rows.
    pub(super) async fn fetch(
        &mut self,
        sql: &SqlText,
        values: &[SqlValue<'_>],
    ) -> Result<Vec<Row>, PostgresError> {
        let answer = self.usable()?.fetch(sql, values).await;
        self.finish(answer)
    }

    /// Runs `sql` and returns the number of rows that it changed.
    pub(super) async fn execute(
        &mut self,
        sql: &SqlText,
        values: &[SqlValue<'_>],
    ) -> Result<u64, PostgresError> {
        let answer = self.usable()?.execute(sql, values).await;
        self.finish(answer)
    }

    /// Runs `sql` once, without preparing it by name.
    pub(super) async fn query(
        &mut self,
        sql: &str,
        values: &[SqlValue<'_>],
    ) -> Result<Vec<Row>, PostgresError> {
        let answer = self.usable()?.query(sql, values).await;
        self.finish(answer)
    }

    /// Runs several statements in one transaction, without values: `CREATE TABLE` and its indexes.
    pub(super) async fn batch(&mut self, statements: &str) -> Result<(), PostgresError> {
        let answer = self.usable()?.raw.client.batch_execute(statements).await;
        self.finish(answer.map_err(PostgresError::from))
    }

    fn usable(&mut self) -> Result<&mut PostgresConnection, PostgresError> {
        if self.0.connection().is_none_or(|connection| connection.raw.is_closed()) {
            self.0.discard();
        }
        self.0.start().ok_or(PostgresError::Unsent)
    }

    fn finish<T>(&mut self, answer: Result<T, PostgresError>) -> Result<T, PostgresError> {
        if answer.as_ref().err().is_none_or(PostgresError::keeps_connection) {
            self.0.finish();
        } else {
            self.0.discard();
        }
        if let Err(error) = &answer
            && error.is_lost_statement()
        {
            self.0.connector().unprepare(error);
        }
        answer
    }
}
