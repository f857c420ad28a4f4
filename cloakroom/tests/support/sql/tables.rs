//! Existing tables: the accepted forms, and the errors of the others.

use cloakroom::testkit::record;
use cloakroom::{Clock, ErrorKind, Provider, providers::Created};

use super::{PATIENCE, SqlServer, a_table};

/// The statements that create the provider's tables.
pub(crate) trait SchemaSql: SqlServer {
    /// Returns the schema of `table`, run by the user of the provider. The statements after it are run by that user too.
    fn creation(table: &str) -> String;
}

/// Creates a table of the provider's form and changes it.
pub(crate) fn changed<S: SchemaSql>(server: &S, by: &str) -> String {
    let table = a_table();
    server.sql(&format!("{} {}", S::creation(&table), by.replace("{t}", &table)));
    table
}

pub(crate) async fn opened<S: SqlServer>(server: &S, table: &str) -> Result<S::Provider, String> {
    let url = server.url_at(server.address(), &format!("table={table}"));
    match S::connect(&url, PATIENCE).await {
        Ok(provider) => Ok(provider),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Config, "{error}");
            Err(error.to_string())
        }
    }
}

/// Makes each change, and checks that the error names what it found and a fix that helps.
pub(crate) async fn a_table_is_refused_until_the_named_fix_is_run(
    server: &impl SchemaSql,
    changes: &[(&str, &str)],
) {
    for (by, found) in changes {
        let table = changed(server, by);
        let Err(text) = opened(server, &table).await else { panic!("{by}: the table is accepted") };
        assert!(text.contains(found), "{by}: {text}");
        let (_, fix) = text.split_once("; run: ").unwrap_or_else(|| panic!("{by}: {text}"));
        server.sql(fix);
        let fixed = opened(server, &table).await;
        let provider = fixed.unwrap_or_else(|text| panic!("{by}, fixed by {fix}: {text}"));
        let stored = record(&Clock::system()).build();
        let key = "one".parse().unwrap();
        assert_eq!(provider.create(&key, &stored).await.unwrap(), Created::Done, "{by}");
        assert_eq!(provider.create(&key, &stored).await.unwrap(), Created::Taken, "{by}");
        assert_eq!(provider.load(&key).await.unwrap(), Some(stored), "{by}");
    }
}

pub(crate) async fn harmless_additions_to_the_table_are_accepted(server: &impl SchemaSql, changes: &[&str]) {
    for by in changes {
        let table = changed(server, by);
        let provider = opened(server, &table).await.unwrap_or_else(|text| panic!("{by}: {text}"));
        let stored = record(&Clock::system()).principal("alice").build();
        assert_eq!(provider.create(&"one".parse().unwrap(), &stored).await.unwrap(), Created::Done, "{by}");
    }
}
