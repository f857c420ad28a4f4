//! Unreadable records: one error, then a new session, and the bytes stay for the operator.

use cloakroom::PostgresProvider;
use data_encoding::HEXLOWER;
use servers::Postgres;

use crate::server::shared;
use crate::sql::Table;
use crate::sql::unreadable::{self, RawTable};

impl RawTable for Table<Postgres> {
    type Provider = PostgresProvider;

    fn provider(&self) -> &PostgresProvider {
        &self.provider
    }

    fn plant(&self, key: &str, bytes: &[u8]) {
        let (table, hex) = (&self.name, HEXLOWER.encode(bytes));
        self.server.sql(&format!("UPDATE {table} SET record = '\\x{hex}' WHERE id = '{key}'"));
    }

    fn put_aside(&self) -> String {
        let row = "id || ' ' || expires || ' ' || encode(record, 'hex')";
        self.server.sql(&format!("SELECT {row} FROM {} WHERE id LIKE '!%'", self.name))
    }
}

#[tokio::test]
#[ignore = "needs postgres: cargo xtask test"]
async fn an_unreadable_record_is_an_error_once_and_put_aside() {
    unreadable::an_unreadable_record_is_an_error_once_and_put_aside(&Table::new(shared()).await).await;
}

#[tokio::test]
#[ignore = "needs postgres: cargo xtask test"]
async fn a_list_skips_a_record_without_a_head() {
    unreadable::a_list_skips_a_record_without_a_head(&Table::new(shared()).await).await;
}

#[tokio::test]
#[ignore = "needs postgres: cargo xtask test"]
async fn a_record_of_a_newer_release_stays_in_place() {
    unreadable::a_record_of_a_newer_release_stays_in_place(&Table::new(shared()).await).await;
}
