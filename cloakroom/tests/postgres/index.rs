//! The index rows: they follow every step of a session, in the same transaction.

use servers::Postgres;

use crate::server::shared;
use crate::sql::index::{self, IndexSql};

impl IndexSql for Postgres {
    fn rows(table: &str) -> String {
        format!(
            "SELECT kind || ' ' || convert_from(value, 'UTF8') || '@' || id FROM {table}_index ORDER BY value, id"
        )
    }

    fn refusal(table: &str) -> String {
        format!(
            "CREATE FUNCTION refuse_{table}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused'; END $$; \
             CREATE TRIGGER refuse_{table} BEFORE INSERT ON {table}_index FOR EACH ROW \
             EXECUTE FUNCTION refuse_{table}()"
        )
    }
}

#[tokio::test]
#[ignore = "needs postgres: cargo xtask test"]
async fn the_index_rows_follow_every_step() {
    index::the_index_rows_follow_every_step(shared()).await;
}

#[tokio::test]
#[ignore = "needs postgres: cargo xtask test"]
async fn a_collection_leaves_no_index_rows() {
    index::a_collection_leaves_no_index_rows(shared()).await;
}

#[tokio::test]
#[ignore = "needs postgres: cargo xtask test"]
async fn an_unreadable_record_leaves_no_index_rows() {
    index::an_unreadable_record_leaves_no_index_rows(shared()).await;
}

#[tokio::test]
#[ignore = "needs postgres: cargo xtask test"]
async fn a_change_of_an_unreadable_record_has_its_own_rows_alone() {
    index::a_change_of_an_unreadable_record_has_its_own_rows_alone(shared()).await;
}

#[tokio::test]
#[ignore = "needs postgres: cargo xtask test"]
async fn a_change_whose_index_rows_fail_is_undone() {
    index::a_change_whose_index_rows_fail_is_undone(shared()).await;
}

#[tokio::test]
#[ignore = "needs postgres: cargo xtask test"]
async fn index_rows_of_a_restored_backup_do_no_harm() {
    index::index_rows_of_a_restored_backup_do_no_harm(shared()).await;
}
