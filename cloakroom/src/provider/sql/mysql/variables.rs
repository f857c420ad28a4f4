//! The variables of a connection on which a promise depends. The provider sets them last and reads them back.

use std::borrow::Cow;

use super::error::MySqlError;

/// A variable, the literal that sets it, and the value that must be read back.
struct Required {
    name: &'static str,
    /// The literal in `SET SESSION`; `None` if [`TRANSACTION`] sets the variable.
    literal: Option<&'static str>,
    /// The expression that reads it.
    read: &'static str,
    expected: &'static str,
}

impl Required {
    const fn set(
        name: &'static str,
        literal: &'static str,
        read: &'static str,
        expected: &'static str,
    ) -> Self {
        Required { name, literal: Some(literal), read, expected }
    }

    const fn of_transactions(name: &'static str, read: &'static str, expected: &'static str) -> Self {
        Required { name, literal: None, read, expected }
    }
}

/// The time that the server keeps a silent connection open, in seconds; twice as long as the pool keeps an idle one.
/// It ends the transaction of a client that was cut off.
const WAIT_TIMEOUT: &str = "60";
const _: () = assert!(crate::provider::sql::pool::MAX_IDLE.as_secs() * 2 == 60);

const REQUIRED: [Required; 13] = [
    // A change is committed before it is acknowledged.
    Required::set("autocommit", "1", "@@autocommit", "1"),
    // COMMIT must not begin another transaction or end the connection.
    Required::set("completion_type", "'NO_CHAIN'", "@@completion_type", "NO_CHAIN"),
    // Strict, so that no value is truncated. No other mode, since several change the meaning of a statement (EMPTY_STRING_IS_NULL)
    // or the value of a column (PAD_CHAR_TO_FULL_LENGTH).
    Required::set("sql_mode", "'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'", "@@sql_mode", SQL_MODE),
    Required::set("time_zone", "'+00:00'", "@@time_zone", "+00:00"),
    Required::set("wait_timeout", WAIT_TIMEOUT, "@@wait_timeout", WAIT_TIMEOUT),
    // A lower limit would truncate the result of a SELECT; 0 would hide every session.
    Required::set("sql_select_limit", "18446744073709551615", "@@sql_select_limit", "18446744073709551615"),
    // If on, the server refuses changes whose condition uses no key, such as a batch of garbage collection.
    Required::set("sql_safe_updates", "0", "@@sql_safe_updates", "0"),
    // If off, max_join_size may refuse to count many sessions.
    Required::set("sql_big_selects", "1", "@@sql_big_selects", "1"),
    // If off, InnoDB may overlook a taken key.
    Required::set("unique_checks", "1", "@@unique_checks", "1"),
    Required::set("foreign_key_checks", "1", "@@foreign_key_checks", "1"),
    // A walk needs the order of complete keys.
    Required::set("max_sort_length", "1024", "@@max_sort_length", "1024"),
    // READ COMMITTED locks no gaps, so no statement waits for garbage collection or for a neighbour in an index.
    Required::of_transactions("transaction_isolation", ISOLATION, "READ-COMMITTED"),
    Required::of_transactions("transaction_read_only", READ_ONLY, "0"),
];

// MariaDB executes the first comment, MySQL the second. The variable has one name in MySQL 8, and another in MariaDB before 11.1.
const ISOLATION: &str = "COALESCE(/*M! (SELECT MAX(variable_value) FROM information_schema.session_variables \
     WHERE variable_name IN ('tx_isolation', 'transaction_isolation')), */ /*!80000 @@transaction_isolation, */ '')";
const READ_ONLY: &str = "COALESCE(/*M! (SELECT MAX(variable_value) FROM information_schema.session_variables \
     WHERE variable_name IN ('tx_read_only', 'transaction_read_only')), */ /*!80000 @@transaction_read_only, */ '')";

const SQL_MODE: &str = "STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION";

/// The statement for the variables that have no common name on both servers.
pub(super) const TRANSACTION: &str = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE";

/// Returns the assignments of the required values, as a list for `SET SESSION`.
pub(super) fn assignments() -> String {
    let all =
        REQUIRED.iter().filter_map(|required| Some(format!("{} = {}", required.name, required.literal?)));
    all.collect::<Vec<_>>().join(", ")
}

/// Returns the expressions that read the variables back as texts, as a list for `SELECT`.
pub(super) fn read() -> String {
    let all = REQUIRED.iter().map(|required| format!("CAST({} AS CHAR)", required.read));
    all.collect::<Vec<_>>().join(", ")
}

/// The number of columns of [`read`].
pub(super) const COUNT: usize = REQUIRED.len();

/// Refuses a connection if a variable has another value than was set. `found` holds the result of [`read`].
pub(super) fn check(found: &[String]) -> Result<(), MySqlError> {
    for (required, found) in REQUIRED.iter().zip(found) {
        let differs = match required.name {
            "sql_mode" => sorted(found) != sorted(required.expected),
            // MariaDB returns a switch as ON or OFF if it is read as text.
            _ => match &**found {
                "ON" => required.expected != "1",
                "OFF" => required.expected != "0",
                found => found != required.expected,
            },
        };
        if differs {
            let found = if found.is_empty() { "nothing".to_owned() } else { found.clone() };
            return Err(MySqlError::Variable { name: required.name, expected: required.expected, found });
        }
    }
    Ok(())
}

fn sorted(modes: &str) -> Vec<&str> {
    let mut modes: Vec<_> = modes.split(',').filter(|mode| !mode.is_empty()).collect();
    modes.sort_unstable();
    modes
}

/// Returns the required variable called `name`, if there is one. The provider overrides a data source name's value for it.
pub(super) fn required(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    let name = match name.strip_prefix("tx_") {
        Some(rest) => Cow::Owned(format!("transaction_{rest}")),
        None => Cow::Borrowed(&*name),
    };
    REQUIRED.iter().map(|required| required.name).find(|required| *required == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn as_expected() -> Vec<String> {
        REQUIRED.iter().map(|required| required.expected.to_owned()).collect()
    }

    #[test]
    fn the_error_of_a_wrong_variable_names_it() {
        check(&as_expected()).unwrap();
        for (place, required) in REQUIRED.iter().enumerate() {
            let opposite = if required.expected == "1" { "OFF" } else { "ON" };
            for other in ["", "2", opposite] {
                let mut found = as_expected();
                found[place] = other.to_owned();
                let error = check(&found).unwrap_err().to_string();
                assert!(error.contains(required.name) && error.contains(required.expected), "{error}");
            }
        }
    }

    #[test]
    fn sql_modes_may_have_any_order_but_no_addition() {
        let with = |modes: &str| {
            let mut found = as_expected();
            found[2] = modes.to_owned();
            check(&found)
        };
        with("NO_ENGINE_SUBSTITUTION,STRICT_ALL_TABLES").unwrap();
        for modes in
            ["STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION,EMPTY_STRING_IS_NULL", "NO_ENGINE_SUBSTITUTION"]
        {
            let error = with(modes).unwrap_err().to_string();
            let expected =
                format!("variable sql_mode: expected {SQL_MODE}, as the provider has set it, found {modes}");
            assert!(error.contains(&expected), "{error}");
        }
    }

    #[test]
    fn both_names_of_the_isolation_level_are_known() {
        assert_eq!(required("tx_isolation"), Some("transaction_isolation"));
        assert_eq!(required("Transaction_Isolation"), Some("transaction_isolation"));
        assert_eq!(required("SQL_MODE"), Some("sql_mode"));
        assert_eq!(required("lock_wait_timeout"), None);
    }
}
