//! The subjects of the measurements, and the requests they get.

use std::path::PathBuf;

use clap::ValueEnum;

/// A session library with one of its stores, or a framework without sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Subject {
    /// axum under a layer that does nothing
    Axum,
    Cloakroom,
    CloakroomFile,
    CloakroomRedis,
    /// cloakroom with a near cache
    CloakroomNear,
    CloakroomMysql,
    CloakroomPostgres,
    CloakroomSqlite,
    TowerSessions,
    TowerSessionsMoka,
    TowerSessionsSqlite,
    TowerSessionsMysql,
    TowerSessionsPostgres,
    TowerSessionsRedis,
    AxumSession,
    AxumSessionRedis,
    /// actix-web without sessions
    Actix,
    ActixSessionCookie,
    ActixSessionRedis,
}

impl Subject {
    pub fn title(self) -> &'static str {
        match self {
            Subject::Axum => "axum, no sessions",
            Subject::Cloakroom => "cloakroom, memory",
            Subject::CloakroomFile => "cloakroom, file",
            Subject::CloakroomRedis => "cloakroom, redis",
            Subject::CloakroomNear => "cloakroom, near cache before redis",
            Subject::CloakroomMysql => "cloakroom, mysql",
            Subject::CloakroomPostgres => "cloakroom, postgres",
            Subject::CloakroomSqlite => "cloakroom, sqlite",
            Subject::TowerSessions => "tower-sessions, memory",
            Subject::TowerSessionsMoka => "tower-sessions, moka",
            Subject::TowerSessionsSqlite => "tower-sessions, sqlite",
            Subject::TowerSessionsMysql => "tower-sessions, mysql",
            Subject::TowerSessionsPostgres => "tower-sessions, postgres",
            Subject::TowerSessionsRedis => "tower-sessions, redis",
            Subject::AxumSession => "axum_session, no pool",
            Subject::AxumSessionRedis => "axum_session, redis",
            Subject::Actix => "actix-web, no sessions",
            Subject::ActixSessionCookie => "actix-session, cookie",
            Subject::ActixSessionRedis => "actix-session, redis",
        }
    }

    /// Returns the same framework without sessions.
    pub fn floor(self) -> Subject {
        if self.is_actix() { Subject::Actix } else { Subject::Axum }
    }

    pub fn is_actix(self) -> bool {
        matches!(self, Subject::Actix | Subject::ActixSessionCookie | Subject::ActixSessionRedis)
    }

    /// Returns true if the program of bench/peers-sqlx serves it.
    pub fn is_sqlx_peer(self) -> bool {
        matches!(
            self,
            Subject::TowerSessionsMysql | Subject::TowerSessionsPostgres | Subject::TowerSessionsSqlite
        )
    }

    /// Returns the name on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().expect("no value is hidden").get_name().to_owned()
    }
}

/// The use that a request makes of its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    Untouched,
    UntouchedWithCookie,
    Read,
    Change,
    FirstVisit,
}

impl Scenario {
    pub const ALL: [Scenario; 5] = [
        Scenario::Untouched,
        Scenario::UntouchedWithCookie,
        Scenario::Read,
        Scenario::Change,
        Scenario::FirstVisit,
    ];

    pub fn title(self) -> &'static str {
        match self {
            Scenario::Untouched => "untouched, no cookie",
            Scenario::UntouchedWithCookie => "untouched, cookie",
            Scenario::Read => "read a value",
            Scenario::Change => "change a value",
            Scenario::FirstVisit => "first visit, sets a value",
        }
    }

    pub fn path(self) -> &'static str {
        match self {
            Scenario::Untouched | Scenario::UntouchedWithCookie => "/untouched",
            Scenario::Read => "/read",
            Scenario::Change => "/change",
            Scenario::FirstVisit => "/first",
        }
    }

    pub fn brings_cookie(self) -> bool {
        !matches!(self, Scenario::Untouched | Scenario::FirstVisit)
    }

    pub fn name(self) -> String {
        self.to_possible_value().expect("no value is hidden").get_name().to_owned()
    }
}

/// The places of stores that are not in memory.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Places {
    /// A folder for files and databases
    #[arg(long)]
    pub folder: PathBuf,
    /// A Redis URL, such as `redis://127.0.0.1/`
    #[arg(long, default_value = "")]
    pub redis: String,
    /// A data source name, such as `user:password@tcp(127.0.0.1:3306)/name`
    #[arg(long, default_value = "")]
    pub mysql: String,
    /// A PostgreSQL URL, such as `postgres://user:password@127.0.0.1/name`
    #[arg(long, default_value = "")]
    pub postgres: String,
    /// The program of bench/peers-sqlx. A server of this program does not need it.
    #[arg(skip)]
    pub sqlx_peer: PathBuf,
}

impl Places {
    /// Returns the arguments of the program of bench/peers-sqlx that serves `subject`; `None` if this program serves it.
    pub fn of_sqlx_peer(&self, subject: Subject) -> Option<[String; 2]> {
        let (store, place) = match subject {
            Subject::TowerSessionsMysql => ("mysql", self.mysql_url()),
            Subject::TowerSessionsPostgres => ("postgres", self.postgres.clone()),
            Subject::TowerSessionsSqlite => ("sqlite", self.folder.display().to_string()),
            _ => return None,
        };
        Some([store.to_owned(), place])
    }

    /// Returns the data source name as the URL that the peer's driver expects.
    fn mysql_url(&self) -> String {
        let port = self
            .mysql
            .rsplit_once("tcp(")
            .and_then(|(_, rest)| rest.split([':', ')']).nth(1)?.parse::<u16>().ok());
        let port = port.expect("an address with a port");
        let password: String =
            servers::MariaDb::PASSWORD.bytes().map(|byte| format!("%{byte:02X}")).collect();
        format!("mysql://{}:{password}@127.0.0.1:{port}/app", servers::MariaDb::USER)
    }
}
