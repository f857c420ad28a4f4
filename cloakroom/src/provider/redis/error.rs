//! What can go wrong with Redis. No text holds a key, a value or a credential: a server's own message may quote what it was sent, so
//! only its code is told.

use std::time::Duration;
use std::{fmt, io};

use redis::RedisError;

use crate::error::{Error, ErrorKind};

#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    #[error("{what}: expected {expected}, found {found}")]
    Setting { what: &'static str, expected: &'static str, found: String },
    #[error("{what}: expected a PEM file, and it cannot be read: {cause}")]
    Pem { what: &'static str, cause: io::Error },
    #[error("{what}: expected PEM with {expected}, found none that can be used")]
    Certificate { what: &'static str, expected: &'static str },
    #[error(
        "no certificate authority is trusted: the system has none that can be read; give one with root_certificates (caFile)"
    )]
    NoAuthorities,
    #[error("expected Redis 6.2 or later, or Valkey, found {found}; use a newer server")]
    Version { found: String },
    #[error(
        "expected {expected}, found {found}; name the provider redis, redis_cluster or redis_sentinel, or the URL's scheme, \
         after what the server is"
    )]
    Topology { expected: &'static str, found: &'static str },
    #[error("no connection to the Redis server at {address}; see that it runs and can be reached: {cause}")]
    Connect { address: String, cause: io::Error },
    #[error(
        "no connection to the Redis server at {address} within {limit:?}; see that it answers, and use rediss:// if it expects TLS"
    )]
    ConnectLate { address: String, limit: Duration },
    #[error(
        "the server at {address} took the connection and did not take part in TLS within {limit:?}; see that it expects TLS on this port, \
         or use redis:// in the place of rediss://"
    )]
    TlsLate { address: String, limit: Duration },
    #[error(
        "no TLS with the Redis server at {address}; see its certificate, ours, and that it expects TLS on this port: {cause}"
    )]
    Tls { address: String, cause: io::Error },
    #[error(
        "the server at {address} closed the connection at once; see that it is Redis, and use rediss:// if it expects TLS: {cause}"
    )]
    Dropped { address: String, cause: io::Error },
    #[error(
        "the server at {address} does not speak Redis's protocol; see the port, and use rediss:// if it expects TLS"
    )]
    Stranger { address: String },
    #[error(
        "the Redis server refuses the connection ({code}); see user name, password, database and its ACL"
    )]
    Refused { code: String },
    #[error(
        "none of the sentinels could tell the primary of {master:?}; see that they run and know this name"
    )]
    NoPrimary { master: Box<str> },
    #[error(
        "the node of the Redis cluster that has this session's slot is not known; see that the cluster is whole"
    )]
    NoNode,
    #[error("the server that was asked is not the primary, or not any more; a failover is under way")]
    NotPrimary,
    #[error("the connection to Redis was lost; whether the step was done is not known: {0}")]
    Lost(io::Error),
    #[error("Redis did not answer within {limit:?}; whether the step was done is not known")]
    Late { limit: Duration },
    #[error("Redis answered with the error {code}{to}; {hint}")]
    Reply { code: String, to: InScript, hint: &'static str },
    #[error("NOPERM: this user may not {what}; docs/redis.md has the line for ACL SETUSER")]
    Rights { what: String },
    #[error("Redis is full ({0}); give it more memory, or fewer and shorter sessions")]
    Full(&'static str),
    #[error(
        "expected an answer of Redis in the form of {expected}; found another: is something else between us and the server?"
    )]
    Form { expected: &'static str },
    #[error(
        "expected {expected} replicas to have the change within {limit:?}, found {found}; it is on the primary alone"
    )]
    Replicas { expected: u32, found: i64, limit: Duration },
    #[error("the session is on its way to another slot and was not free in time; try again")]
    Moving,
    #[error("the move to another slot took too long and was taken back by another process; try again")]
    TakenBack,
    #[error(
        "expected a record under a session's key, found something else; nobody but this program should write there"
    )]
    NoRecord,
    #[error("the operating system's random generator failed: no move can be told from another's")]
    NoRandom,
    #[error(
        "expected one server that tells of changes, found a cluster, whose sessions move from server to server; give the near cache a \
         bound instead: Cached::builder(provider).within(..)"
    )]
    NoNews,
    #[error("the work was broken off; try again")]
    BrokenOff(#[source] tokio::task::JoinError),
}

impl StoreError {
    pub(super) fn kind(&self) -> ErrorKind {
        use StoreError as S;
        match self {
            S::Setting { .. } | S::Pem { .. } | S::Certificate { .. } | S::NoAuthorities => ErrorKind::Config,
            S::Version { .. } | S::Topology { .. } => ErrorKind::Config,
            S::Late { .. } => ErrorKind::Timeout,
            S::NoRecord => ErrorKind::Corrupt,
            S::NoNews => ErrorKind::Unsupported,
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

    /// What a failed call says, without what it was about.
    pub(super) fn of_call(error: &RedisError) -> StoreError {
        match error.code() {
            Some(code) => StoreError::of_reply(code, error.detail().unwrap_or_default()),
            None => StoreError::Lost(io_cause(error)),
        }
    }

    fn of_reply(code: &str, detail: &str) -> StoreError {
        let hint = match code {
            "OOM" => return StoreError::Full("maxmemory is reached"),
            "WRONGTYPE" => return StoreError::NoRecord,
            "NOPERM" => return StoreError::Rights { what: denied(detail) },
            "NOAUTH" | "WRONGPASS" => "see user name and password",
            "READONLY" | "MASTERDOWN" => "it is a replica, and a failover may be under way",
            "CLUSTERDOWN" | "TRYAGAIN" | "MOVED" | "ASK" => "the cluster is not whole or is moving slots",
            "LOADING" => "it is loading its data",
            "BUSY" => "a script of someone else holds it up",
            "MISCONF" => {
                "it cannot write to its disk, and refuses changes for that (stop-writes-on-bgsave-error)"
            }
            "NOREPLICAS" => "it lacks the replicas it is told to have (min-replicas-to-write)",
            "NOSCRIPT" => "it does not know the script",
            "ERR" => general(detail),
            _ => "this code is not one of Redis's own: a module or a proxy answers",
        };
        StoreError::Reply { code: code.chars().take(24).collect(), to: InScript::of(detail), hint }
    }
}

/// The command that was refused inside one of our scripts, if it was there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InScript(Option<String>);

impl InScript {
    /// By the form that `scripts/call.lua` gives it, which holds nothing else of what was sent.
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

/// Names the right that a user lacks, by the server's words for it.
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
        None => "run a command that is needed".to_owned(),
    }
}

/// Names the cause of an error without a code of its own.
fn general(detail: &str) -> &'static str {
    let detail = detail.to_ascii_lowercase();
    let causes = [
        (
            "unknown command",
            "the server, or a proxy before it, does not know a command that is needed (rename-command)",
        ),
        ("max number of clients", "it has as many clients as it may (maxclients)"),
        ("db index", "it has no database of this number"),
        ("select is not allowed", "a cluster has database 0 alone"),
        ("protocol error", "something between us and the server changes what is sent"),
        ("cluster support disabled", "it is a server of its own and no node of a cluster"),
        ("no such master", "the sentinel does not know the primary's name"),
        ("client sent auth", "it has no password, and one was given"),
    ];
    causes.into_iter().find(|(words, _)| detail.contains(words)).map_or(
        "the words that come with it may quote a session and are not shown; MONITOR on the server shows the command",
        |(_, cause)| cause,
    )
}

/// What the operating system said; of anything else its kind alone.
pub(super) fn io_cause(error: &RedisError) -> io::Error {
    match error.is_io_error() {
        true => io::Error::other(error.to_string()),
        false => io::Error::other(error.category().to_owned()),
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
    fn a_servers_message_is_not_told_and_its_code_is() {
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
            ("-ERR unknown command 'EVALSHA', with args\r\n", "does not know a command"),
        ] {
            assert!(text(reply).contains(named), "{reply}: {}", text(reply));
        }
    }

    #[test]
    fn a_full_server_is_told_from_one_that_fails() {
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
