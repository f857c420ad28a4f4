//! Unreadable records: one error, then a new session, and the bytes stay for the operator.

use cloakroom::SqliteProvider;

use crate::folder::{DataFolder, TABLE, open, plant};
use crate::unreadable_rows::{self, RawTable};

/// The provider's table in a new file.
struct SqliteTable {
    provider: SqliteProvider,
    folder: DataFolder,
}

impl SqliteTable {
    async fn new() -> Self {
        let folder = DataFolder::new();
        SqliteTable { provider: SqliteProvider::connect(folder.path()).await.unwrap(), folder }
    }
}

impl RawTable for SqliteTable {
    type Provider = SqliteProvider;

    fn provider(&self) -> &SqliteProvider {
        &self.provider
    }

    fn plant(&self, key: &str, bytes: &[u8]) {
        plant(&self.folder.path(), key, bytes);
    }

    fn put_aside(&self) -> String {
        let query =
            format!("SELECT id || ' ' || expires || ' ' || hex(record) FROM {TABLE} WHERE id LIKE '!%'");
        let connection = open(&self.folder.path());
        let mut statement = connection.prepare(&query).unwrap();
        let rows = statement.query_map((), |row| row.get(0)).unwrap();
        rows.collect::<Result<Vec<String>, _>>().unwrap().join("\n")
    }
}

#[tokio::test]
async fn an_unreadable_record_is_an_error_once_and_put_aside() {
    unreadable_rows::an_unreadable_record_is_an_error_once_and_put_aside(&SqliteTable::new().await).await;
}

#[tokio::test]
async fn a_list_skips_a_record_without_a_head() {
    unreadable_rows::a_list_skips_a_record_without_a_head(&SqliteTable::new().await).await;
}

#[tokio::test]
async fn a_record_of_a_newer_release_stays_in_place() {
    unreadable_rows::a_record_of_a_newer_release_stays_in_place(&SqliteTable::new().await).await;
}
