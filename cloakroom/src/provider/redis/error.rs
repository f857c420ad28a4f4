//! The errors of the Redis provider. No text holds a key, a value or a credential. A server's own message may quote what it
//! was sent, so only its code is shown.

use std::time::Duration;
use std::{fmt, io};

use redis::RedisError;

use crate::error::{Error, ErrorKind};

#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    #[error("{what}: expected {expected}, found {found}")]
    Setting { what: &'static str, expected: &'static str, found: String },
    #[error("{what}: expected a readable PEM file, found none: {cause}; check the path and its permissions")]
    Pem { what: &'static str, cause: io::Error },
    #[error("{what}: expected PEM with {expected}, found none that can be used; check the file's content")]
    Certificate { what: &'static str, expected: &'static str },
    #[error(
        "expected a certificate authority to trust, found none in the system's store; set root_certificates (ca_file)"
    )]
    NoAuthorities,
    #[error("expected Redis 6.2 or later, or Valkey, found {found}; upgrade the server")]
    Version { found: String },
    #[error(
        "expected {expected}, found {found}; choose the provider (redis, redis_cluster or redis_sentinel) or the URL's scheme \
         that fits the server"
    )]
    Topology { expected: &'static str, found: &'static str },
    #[error(
        "could not connect to the Redis server at {address}; check that it runs and can be reached: {cause}"
    )]
    Connect { address: String, cause: io::Error },
    #[error(
        "could not connect to the Redis server at {address} within {limit:?}; check that it answers, and use rediss:// if it \
         expects TLS"
    )]
    ConnectLate { address: String, limit: Duration },
    #[error(
        "the server at {address} accepted the connection but did not answer the TLS handshake within {limit:?}; check that it \
         expects TLS on this port, or use redis:// instead of rediss://"
    )]
    TlsLate { address: String, limit: Duration },
    #[error(
        "the TLS handshake with the Redis server at {address} failed; check its certificate, the client's, and that it expects \
         TLS on this port: {cause}"
    )]
    Tls { address: String, cause: io::Error },
    #[error(
        "the server at {address} closed the connection at once; check that it is Redis, and use rediss:// if it expects TLS: \
         {cause}"
    )]
    Dropped { address: String, cause: io::Error },
    #[error(
        "the server at {address} does not speak Redis's protocol; check the port, and use rediss:// if it expects TLS"
    )]
    NotRedis { address: String },
    #[error(
        "the Redis server refused the connection ({code}); check user name, password, database and the server's ACL"
    )]
    Refused { code: String },
    #[error(
        "no sentinel reported a primary named {master:?}; check that the sentinels run and know this name"
    )]
    NoPrimary { master: Box<str> },
    #[error(
        "no node of the Redis cluster is known to serve this session's slot; check that the cluster covers all slots"
    )]
    NoNode,
    #[error("the Redis server is not the primary, perhaps because of a failover; try again")]
    NotPrimary,
    #[error("the connection to Redis was lost, so the outcome of the call is unknown: {0}")]
    Lost(io::Error),
    #[error("Redis did not answer within {limit:?}, so the outcome of the call is unknown")]
    Late { limit: Duration },
    #[error("Redis answered with the error {code}{to}; {hint}")]
    Reply { code: String, to: InScript, hint: &'static str },
    #[error(
        "NOPERM: this user may not {what}; the guide's chapter on Redis lists the rights for ACL SETUSER"
    )]
    Rights { what: String },
    #[error("Redis is full ({0}); give it more memory, or fewer and shorter sessions")]
    Full(&'static str),
    #[error(
        "expected a reply of Redis in the form of {expected}, found another form; check whether a proxy changes the replies"
    )]
    Form { expected: &'static str },
    #[error(
        "{found} of {expected} replicas had the change within {limit:?}; it is on the primary, and a failover may lose it"
    )]
    Replicas { expected: u32, found: i64, limit: Duration },
    #[error("the session is being renamed to another slot and stayed locked until the deadline; try again")]
    Moving,
    #[error("the rename to another slot took too long and was undone by another process; try again")]
    MoveUndone,
    #[error(
        "expected a record under a session's key, found something else; no other program should write under this prefix"
    )]
    NotARecord,
    #[error("the operating system's random generator failed, and a rename on a cluster needs it; try again")]
    NoRandom,
    #[error(
        "expected a single server that sends invalidations, found a cluster; bound the age of copies instead: \
         Cached::builder(provider).within(..)"
    )]
    NoInvalidations,
    #[error("the runtime cancelled the rename; try again")]
    Cancelled(#[source] tokio::task::JoinError),
}

impl StoreError {
    pub(super) fn kind(&self) -> ErrorKind {
        use StoreError as S;
        match self {
            S::Setting { .. } | S::Pem { .. } | S::Certificate { .. } | S::NoAuthorities => ErrorKind::Config,
            S::Version { .. } | S::Topology { .. } => ErrorKind::Config,
            S::Late { .. } => ErrorKind::Timeout,
            S::NotARecord => ErrorKind::Corrupt,
            S::NoInvalidations => ErrorKind::Unsupported,
            _ => ErrorKind::Unavailable,
        }
    }

    pub(super) fn setting(
        what: &'static str,
        expected: &'static str,
        found: impl Into<String>,
    ) -> StoreError {
        StoreError::Setting { what, expected, found: found.into() }
    }

    pub(super) fn is_unknown_command(&self) -> bool {
        matches!(self, StoreError::Reply { hint, .. } if *hint == general("unknown command"))
    }

    pub(super) fn is_unknown_script(&self) -> bool {
        matches!(self, StoreError::Reply { code, .. } if code == "NOSCRIPT")
    }

    /// Converts the error of a failed call. Keeps its code, and drops the message.
    pub(super) fn of_call(error: &RedisError) -> StoreError {
        match error.code() {
            Some(code) => StoreError::of_reply(code, error.detail().unwrap_or_default()),
            None => StoreError::Lost(io_cause(error)),
        }
    }

    fn of_reply(code: &str, detail: &str) -> StoreError {
        let hint = match code {
            "OOM" => return StoreError::Full("maxmemory is reached"),
            "WRONGTYPE" => return StoreError::NotARecord,
            "NOPERM" => return StoreError::Rights { what: denied(detail) },
            "NOAUTH" | "WRONGPASS" => "check user name and password",
            "READONLY" | "MASTERDOWN" => "it is a replica, and a failover may be under way",
            "CLUSTERDOWN" | "TRYAGAIN" | "MOVED" | "ASK" => "the cluster is incomplete or is migrating slots",
            "LOADING" => "it is loading its data",
            "BUSY" => "another client's script blocks it",
            "MISCONF" => "it cannot write to its disk, and so refuses changes (stop-writes-on-bgsave-error)",
            "NOREPLICAS" => "it has fewer replicas than it requires (min-replicas-to-write)",
            "NOSCRIPT" => "it does not know the script",
            "ERR" => general(detail),
            _ => "this code is not one of Redis's own: a module or a proxy answered",
        };
        StoreError::Reply { code: code.chars().take(24).collect(), to: InScript::of(detail), hint }
    }
}

/// The command that failed inside one of the scripts, if one did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InScript(Option<String>);

impl InScript {
    /// Reads the form that `scripts/call.lua` writes. It holds nothing else of what was sent.
    fn of(detail: &str) -> InScript {
        let known = |name: &str| name.len() <= 24 && name.chars().all(|c| c.is_ascii_uppercase() || c == ' ');
        let name = detail.rsplit_once("in the script: ").map(|(_, name)| name.trim());
        InScript(name.filter(|name| known(name)).map(str::to_owned))
    }
}

impl fmt::Display for InScript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(name) => write!(f, " to {name} in a script"),
            None => Ok(()),
        }
    }
}

/// Names the right that a user lacks, from the server's message.
fn denied(detail: &str) -> String {
    const COMMANDS: [&str; 15] = [
        "evalsha",
        "eval",
        "get",
        "del",
        "wait",
        "info",
        "role",
        "client",
        "cluster",
        "asking",
        "ping",
        "select",
        "scan",
        "sentinel",
        "subscribe",
    ];
    if let Some((_, name)) = detail.rsplit_once("in the script: ") {
        let (name, keys) = name
            .split_once(" on this key")
            .map_or((name, ""), |(name, _)| (name, " on keys that begin with the prefix"));
        let name: String = name.chars().filter(char::is_ascii_uppercase).take(24).collect();
        return format!("run {name} in a script{keys}");
    }
    if detail.contains(" key") {
        return "use keys that begin with the prefix".to_owned();
    }
    let named = |command: &&&str| {
        detail.contains(&format!("'{command}'")) || detail.contains(&format!("'{command}|"))
    };
    match COMMANDS.iter().find(named) {
        Some(command) => format!("run {}", command.to_ascii_uppercase()),
        None => "run a command that the provider needs".to_owned(),
    }
}

/// Names the cause of an `ERR` reply, which has no code of its own.
fn general(detail: &str) -> &'static str {
    let detail = detail.to_ascii_lowercase();
    let causes = [
        (
            "unknown command",
            "the server, or a proxy in front of it, does not know a command that the provider needs (rename-command)",
        ),
        ("max number of clients", "it has reached its limit of clients (maxclients)"),
        ("db index", "it has no database of this number"),
        ("select is not allowed", "a cluster has only database 0"),
        ("protocol error", "something between client and server changes what is sent"),
        ("cluster support disabled", "it is a single server, not a node of a cluster"),
        ("no such master", "the sentinel does not know the primary's name"),
        ("client sent auth", "it has no password, but one was given"),
    ];
    causes.into_iter().find(|(words, _)| detail.contains(words)).map_or(
        "its message may quote a session and is not shown; MONITOR on the server shows the command",
        |(_, cause)| cause,
    )
}

/// Returns the operating system's error. Of any other error it keeps the category alone.
pub(super) fn io_cause(error: &RedisError) -> io::Error {
    if error.is_io_error() {
        io::Error::other(error.to_string())
    } else {
        io::Error::other(error.category().to_owned())
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        Error::new(error.kind(), error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_code_is_shown_and_its_message_is_not() {
        let reply = "-ERR unknown command 'FOO', with args beginning with: 'secret-key' \r\n";
        let error = redis::parse_redis_value(reply.as_bytes()).unwrap().extract_error().unwrap_err();
        let error = Error::from(StoreError::of_call(&error));
        let shown = format!("{error} {error:?}");
        assert!(shown.contains("ERR") && !shown.contains("secret-key"), "{shown}");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }

    #[test]
    fn a_missing_right_is_named() {
        let text = |reply: &str| {
            let error = redis::parse_redis_value(reply.as_bytes()).unwrap().extract_error().unwrap_err();
            StoreError::of_call(&error).to_string()
        };
        for (reply, named) in [
            ("-NOPERM User app has no permissions to run the 'evalsha' command\r\n", "may not run EVALSHA;"),
            (
                "-NOPERM this user has no permissions to run the 'eval' command or its subcommand\r\n",
                "may not run EVAL;",
            ),
            ("-NOPERM No permissions to access a key\r\n", "may not use keys that begin with the prefix;"),
            ("-NOPERM in the script: ZADD\r\n", "may not run ZADD in a script;"),
            ("-NOPERM in the script: SET on this key\r\n", "may not run SET in a script on keys that begin"),
            ("-MISCONF in the script: SET\r\n", "MISCONF to SET in a script; it cannot write to its disk"),
            (
                "-ERR unknown command 'EVALSHA', with args\r\n",
                "does not know a command that the provider needs",
            ),
        ] {
            assert!(text(reply).contains(named), "{reply}: {}", text(reply));
        }
    }

    #[test]
    fn a_full_server_and_a_replica_are_unavailable() {
        let parse =
            |reply: &str| redis::parse_redis_value(reply.as_bytes()).unwrap().extract_error().unwrap_err();
        let kind = |reply| StoreError::of_call(&parse(reply)).kind();
        assert_eq!(
            kind("-OOM command not allowed when used memory > 'maxmemory'.\r\n"),
            ErrorKind::Unavailable
        );
        assert_eq!(kind("-WRONGTYPE Operation against a key\r\n"), ErrorKind::Corrupt);
        assert_eq!(
            kind("-READONLY You can't write against a read only replica.\r\n"),
            ErrorKind::Unavailable
        );
    }
}
