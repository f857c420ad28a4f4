//! Unreadable records: one error, then a new session, and the bytes stay for the operator.

use cloakroom::MySqlProvider;
use data_encoding::HEXLOWER;
use servers::MariaDb;

use crate::server::shared;
use crate::sql::Table;
use crate::sql::unreadable::{self, RawTable};

impl RawTable for Table<MariaDb> {
    type Provider = MySqlProvider;

    fn provider(&self) -> &MySqlProvider {
        &self.provider
    }

    fn plant(&self, key: &str, bytes: &[u8]) {
        let (table, hex) = (&self.name, HEXLOWER.encode(bytes));
        self.server.sql(&format!("UPDATE {table} SET record = x'{hex}' WHERE id = '{key}'"));
    }

    fn put_aside(&self) -> String {
        let row = "CONCAT(id, ' ', expires, ' ', HEX(record))";
        self.server.sql(&format!("SELECT {row} FROM {} WHERE id LIKE '!%'", self.name))
    }
}

#[tokio::test]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn an_unreadable_record_is_an_error_once_and_put_aside() {
    unreadable::an_unreadable_record_is_an_error_once_and_put_aside(&Table::new(shared()).await).await;
}

#[tokio::test]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn a_list_skips_a_record_without_a_head() {
    unreadable::a_list_skips_a_record_without_a_head(&Table::new(shared()).await).await;
}

#[tokio::test]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn a_record_of_a_newer_release_stays_in_place() {
    unreadable::a_record_of_a_newer_release_stays_in_place(&Table::new(shared()).await).await;
}
