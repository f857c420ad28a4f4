//! The environment variables of libpq, and the user's home directory.

use std::path::PathBuf;

/// The variables that libpq and lib/pq read, each with its parameter. They supply what the connection string leaves out.
pub(super) const VARIABLES: [(&str, &str); 39] = [
    ("$PGAPPNAME", "application_name"),
    ("$PGCHANNELBINDING", "channel_binding"),
    ("$PGCLIENTENCODING", "client_encoding"),
    ("$PGCONNECT_TIMEOUT", "connect_timeout"),
    ("$PGDATABASE", "dbname"),
    ("$PGDATESTYLE", "datestyle"),
    ("$PGGEQO", "geqo"),
    ("$PGGSSDELEGATION", "gssdelegation"),
    ("$PGGSSENCMODE", "gssencmode"),
    ("$PGGSSLIB", "gsslib"),
    ("$PGHOST", "host"),
    ("$PGHOSTADDR", "hostaddr"),
    ("$PGKRBSRVNAME", "krbsrvname"),
    ("$PGLOADBALANCEHOSTS", "load_balance_hosts"),
    ("$PGMAXPROTOCOLVERSION", "max_protocol_version"),
    ("$PGMINPROTOCOLVERSION", "min_protocol_version"),
    ("$PGOPTIONS", "options"),
    ("$PGPASSFILE", "passfile"),
    ("$PGPASSWORD", "password"),
    ("$PGPORT", "port"),
    ("$PGREQUIREAUTH", "require_auth"),
    ("$PGREQUIREPEER", "requirepeer"),
    ("$PGREQUIRESSL", "requiressl"),
    ("$PGSERVICE", "service"),
    ("$PGSSLCERT", "sslcert"),
    ("$PGSSLCERTMODE", "sslcertmode"),
    ("$PGSSLCOMPRESSION", "sslcompression"),
    ("$PGSSLCRL", "sslcrl"),
    ("$PGSSLCRLDIR", "sslcrldir"),
    ("$PGSSLKEY", "sslkey"),
    ("$PGSSLMAXPROTOCOLVERSION", "ssl_max_protocol_version"),
    ("$PGSSLMINPROTOCOLVERSION", "ssl_min_protocol_version"),
    ("$PGSSLMODE", "sslmode"),
    ("$PGSSLNEGOTIATION", "sslnegotiation"),
    ("$PGSSLROOTCERT", "sslrootcert"),
    ("$PGSSLSNI", "sslsni"),
    ("$PGTARGETSESSIONATTRS", "target_session_attrs"),
    ("$PGTZ", "tz"),
    ("$PGUSER", "user"),
];

/// The part of the process's environment that settings depend on.
pub(super) struct Environment {
    /// Values with their place in `VARIABLES`.
    pub(super) values: Vec<(usize, String)>,
    pub(super) home: Option<PathBuf>,
    /// Returns the name of the operating system's user, who is the default user of the database. The look-up may ask the network.
    pub(super) user: fn() -> Option<String>,
}

impl Environment {
    pub(super) fn of_process() -> Environment {
        let value = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        let given = |(at, (name, _)): (usize, &(&str, &str))| Some((at, value(name.strip_prefix('$')?)?));
        Environment {
            values: VARIABLES.iter().enumerate().filter_map(given).collect(),
            home: std::env::home_dir(),
            user: || whoami::username().ok(),
        }
    }
}
