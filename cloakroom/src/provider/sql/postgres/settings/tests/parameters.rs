//! Each parameter that the documentation of lib/pq and of libpq lists, and what becomes of it.

use super::super::ssl::{Authorities, BindingMode, ClientCertificate, SslMode, TlsVersions};
use super::*;

/// The fate of a parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    /// It changes the settings.
    Honoured,
    /// It is accepted, and has no effect on sessions.
    Neutral,
    Refused,
}

use Fate::{Honoured, Neutral, Refused};

/// The parameters of lib/pq's documentation with a value each, as Beego's users write them.
const LIB_PQ: [(&str, &str, Fate); 51] = [
    ("dbname", "app", Honoured),
    ("database", "app", Honoured),
    ("user", "u", Honoured),
    ("password", "p", Honoured),
    ("passfile", "/p", Honoured),
    ("host", "db", Honoured),
    ("hostaddr", "10.0.0.1", Honoured),
    ("port", "6432", Honoured),
    ("sslmode", "disable", Honoured),
    ("sslmode", "allow", Honoured),
    ("sslmode", "prefer", Neutral),
    ("sslmode", "require", Honoured),
    ("sslmode", "verify-ca", Honoured),
    ("sslmode", "verify-full", Honoured),
    ("sslmode", "pqgo-custom", Refused),
    ("sslnegotiation", "postgres", Neutral),
    ("sslnegotiation", "direct", Refused),
    ("sslrootcert", "/ca", Honoured),
    ("sslsni", "0", Honoured),
    ("sslsni", "1", Neutral),
    ("sslinline", "true", Honoured),
    ("sslinline", "no", Neutral),
    ("ssl_min_protocol_version", "TLSv1.2", Neutral),
    ("ssl_min_protocol_version", "TLSv1.3", Honoured),
    ("ssl_max_protocol_version", "TLSv1.2", Honoured),
    ("ssl_max_protocol_version", "TLSv1.1", Refused),
    ("krbsrvname", "postgres", Refused),
    ("krbspn", "x", Refused),
    ("connect_timeout", "10", Honoured),
    ("application_name", "a", Honoured),
    ("fallback_application_name", "a", Honoured),
    ("options", "-c geqo=off", Honoured),
    ("client_encoding", "UTF8", Neutral),
    ("client_encoding", "utf-8", Neutral),
    ("datestyle", "ISO, MDY", Neutral),
    ("datestyle", "German", Refused),
    ("binary_parameters", "yes", Honoured),
    ("disable_prepared_binary_result", "yes", Neutral),
    ("keepalives", "0", Honoured),
    ("keepalives_interval", "5", Honoured),
    ("tz", "UTC", Honoured),
    ("geqo", "off", Honoured),
    ("target_session_attrs", "read-write", Honoured),
    ("load_balance_hosts", "random", Honoured),
    ("min_protocol_version", "3.0", Neutral),
    ("max_protocol_version", "latest", Neutral),
    ("service", "s", Refused),
    ("search_path", "web", Honoured),
    ("work_mem", "8MB", Honoured),
    ("statement_timeout", "1000", Honoured),
    ("timezone", "UTC", Honoured),
];

/// The parameters of libpq's documentation (PostgreSQL 18) that lib/pq does not have, or with other values.
const LIBPQ: [(&str, &str, Fate); 50] = [
    ("channel_binding", "disable", Honoured),
    ("channel_binding", "prefer", Neutral),
    ("channel_binding", "require", Honoured),
    ("client_encoding", "auto", Refused),
    ("gssdelegation", "0", Neutral),
    ("gssdelegation", "1", Refused),
    ("gssencmode", "disable", Neutral),
    ("gssencmode", "prefer", Neutral),
    ("gssencmode", "require", Refused),
    ("gsslib", "gssapi", Refused),
    ("keepalives", "1", Neutral),
    ("keepalives_count", "3", Honoured),
    ("keepalives_idle", "30", Honoured),
    ("keepalives_idle", "0", Neutral),
    ("load_balance_hosts", "disable", Neutral),
    ("max_protocol_version", "3.2", Neutral),
    ("min_protocol_version", "3.2", Refused),
    ("oauth_ca_file", "/ca", Refused),
    ("oauth_client_id", "x", Refused),
    ("oauth_client_secret", "x", Refused),
    ("oauth_issuer", "x", Refused),
    ("oauth_scope", "x", Refused),
    ("replication", "false", Neutral),
    ("replication", "database", Refused),
    ("require_auth", "scram-sha-256", Refused),
    ("requirepeer", "postgres", Refused),
    ("requiressl", "1", Honoured),
    ("requiressl", "0", Neutral),
    ("scram_client_key", "x", Refused),
    ("scram_server_key", "x", Refused),
    ("servicefile", "/s", Refused),
    ("sslcertmode", "allow", Neutral),
    ("sslcertmode", "disable", Honoured),
    ("sslcertmode", "require", Refused),
    ("sslcert", "/c", Honoured),
    ("sslkey", "/k", Refused),
    ("sslcompression", "0", Neutral),
    ("sslcompression", "1", Refused),
    ("sslcrl", "/c", Refused),
    ("sslcrldir", "/c", Refused),
    ("sslkeylogfile", "/k", Refused),
    ("sslpassword", "x", Refused),
    ("sslrootcert", "system", Honoured),
    ("target_session_attrs", "any", Neutral),
    ("target_session_attrs", "read-only", Honoured),
    ("target_session_attrs", "primary", Honoured),
    ("target_session_attrs", "standby", Honoured),
    ("target_session_attrs", "prefer-standby", Honoured),
    ("tcp_user_timeout", "5000", Honoured),
    ("ssl", "false", Refused),
];

#[track_caller]
fn assert_fate(name: &str, value: &str, fate: Fate) {
    let texts = [format!("{name}='{value}'"), format!("postgres:///?{name}={}", value.replace(' ', "%20"))];
    for text in texts {
        let found = match Settings::parse_in(&text, &bare()) {
            Ok(settings) if settings == parsed("") => Neutral,
            Ok(_) => Honoured,
            Err(SettingsError::Refused { name: found, .. } | SettingsError::Value { name: found, .. }) => {
                assert!(found.starts_with(name), "{text}: the error is about {found}");
                Refused
            }
            Err(error) => panic!("{text}: {error}"),
        };
        assert_eq!(found, fate, "{text}");
    }
}

#[test]
fn every_parameter_of_lib_pq_is_understood() {
    for (name, value, fate) in LIB_PQ {
        assert_fate(name, value, fate);
    }
}

#[test]
fn every_parameter_of_libpq_is_understood() {
    for (name, value, fate) in LIBPQ {
        assert_fate(name, value, fate);
    }
}

#[test]
fn no_known_parameter_is_without_a_case_or_an_effect() {
    let own = ["create_table", "deadline", "durability", "pool", "prepared_statements", "table"];
    for name in params::NAMES {
        let is_listed =
            LIB_PQ.iter().chain(&LIBPQ).any(|(listed, ..)| *listed == name) || own.contains(&name);
        assert!(is_listed, "{name} is in no table of this test");
        // A value that no part takes out would be ignored.
        let pair = params::GivenPair { place: 1, name: name.to_owned(), value: "1".to_owned() };
        let mut given = Given::collect(vec![pair], &bare()).unwrap();
        let outcome = given.refuse_unsupported().and_then(|()| Settings::take(&mut given, &bare()).map(drop));
        assert!(outcome.is_err() || given.is_used_up(), "{name} has no effect");
    }
}

#[test]
fn the_variables_of_libpq_supply_what_is_left_out() {
    let environment = with_variables(&[
        ("$PGHOST", "db"),
        ("$PGPORT", "7"),
        ("$PGUSER", "u"),
        ("$PGDATABASE", "app"),
        ("$PGPASSWORD", "p"),
        ("$PGSSLMODE", "verify-ca"),
        ("$PGTZ", "UTC"),
        ("$PGOPTIONS", ""),
    ]);
    let all = Settings::parse_in("", &environment).unwrap();
    assert_eq!(all, parsed("host=db port=7 user=u dbname=app password=p sslmode=verify-ca timezone=UTC"));
    let some =
        Settings::parse_in("postgres://v:q@other/db?sslmode=disable&timezone=CET", &environment).unwrap();
    assert_eq!(some, parsed("host=other port=7 user=v dbname=db password=q sslmode=disable timezone=CET"));
    let address = with_variables(&[("$PGHOSTADDR", "10.0.0.1")]);
    assert_eq!(Settings::parse_in("host=db", &address), Ok(parsed("host=db")));
    assert_eq!(Settings::parse_in("", &address), Ok(parsed("hostaddr=10.0.0.1")));
}

#[test]
fn an_error_names_the_variable_it_comes_from() {
    for (name, value, found) in [
        (
            "$PGPORT",
            "x",
            SettingsError::Value { name: "$PGPORT", expected: "ports from 1 to 65535, separated by commas" },
        ),
        ("$PGSSLMODE", "x", refused_value("$PGSSLMODE", "sslmode=x")),
    ] {
        assert_eq!(Settings::parse_in("", &with_variables(&[(name, value)])), Err(found));
    }
    let service = Settings::parse_in("", &with_variables(&[("$PGSERVICE", "x")])).unwrap_err();
    assert!(matches!(service, SettingsError::Refused { name: "$PGSERVICE", .. }), "{service}");
}

/// Returns the error of `text` with another name.
fn refused_value(name: &'static str, text: &str) -> SettingsError {
    let SettingsError::Value { expected, .. } = refused(text) else { panic!("{text} has another error") };
    SettingsError::Value { name, expected }
}

#[test]
fn the_error_of_a_wrong_value_names_its_parameter() {
    for (text, name) in [
        ("port=0", "port"),
        ("port=65536", "port"),
        ("port=+5", "port"),
        ("hostaddr=db", "hostaddr"),
        ("sslmode=on", "sslmode"),
        ("sslsni=maybe", "sslsni"),
        ("connect_timeout=soon", "connect_timeout"),
        ("deadline=5", "deadline"),
        ("pool=0", "pool"),
        ("pool=many", "pool"),
        ("durability=durable", "durability"),
        ("keepalives_idle=-1", "keepalives_idle"),
        ("target_session_attrs=master", "target_session_attrs"),
        ("load_balance_hosts=yes", "load_balance_hosts"),
        ("channel_binding=1", "channel_binding"),
        ("ssl_min_protocol_version=1.2", "ssl_min_protocol_version"),
        ("client_encoding=LATIN1", "client_encoding"),
    ] {
        assert!(matches!(refused(text), SettingsError::Value { name: found, .. } if found == name), "{text}");
    }
    assert_eq!(refused("host=a=b"), SettingsError::Host);
    for text in [
        "sslmode=prefer sslnegotiation=direct",
        "sslmode=disable channel_binding=require",
        "sslrootcert=system sslmode=require",
    ] {
        assert!(matches!(refused(text), SettingsError::Refused { .. }), "{text}");
    }
}

#[test]
fn a_misspelt_parameter_names_the_nearest_one() {
    for (name, nearest) in [
        ("sslmod", "sslmode"),
        ("ssl_mode", "sslmode"),
        ("SSLMode", "sslmode"),
        ("ssl-mode", "sslmode"),
        ("passwrod", "password"),
        ("username", "user"),
        ("db_name", "dbname"),
        ("connect-timeout", "connect_timeout"),
        ("connecttimeout", "connect_timeout"),
        ("target_session_attr", "target_session_attrs"),
        ("prepared_statement", "prepared_statements"),
        ("createtable", "create_table"),
        ("aplication_name", "application_name"),
        ("ssl_rootcert", "sslrootcert"),
        ("Timezone", "timezone"),
    ] {
        let expected = SettingsError::Unknown { place: 2, nearest };
        assert_eq!(refused(&format!("host=db {name}=1")), expected, "{name}");
    }
}

#[test]
fn any_other_name_is_a_setting_of_the_server() {
    let settings =
        parsed(r"search_path='web, public' my.setting=a\\b statement_timeout=100 options='-c geqo=off'");
    let options = settings.startup_options().unwrap();
    assert_eq!(
        options,
        r"-c geqo=off -c search_path=web,\ public -c my.setting=a\\b -c statement_timeout=100"
    );
    assert_eq!(parsed("").startup_options(), None);
    for name in ["a-b", "A_SETTING", "a;b", "1a", "é"] {
        assert_eq!(refused(&format!("host=db {name}=1")), SettingsError::Name { place: 2 }, "{name}");
    }
}

#[test]
fn encryption_is_as_libpq_documents_it() {
    let ssl = |text: &str| parsed(text).ssl;
    assert_eq!(ssl("").mode, SslMode::Prefer);
    assert_eq!(ssl("sslrootcert=system").mode, SslMode::VerifyFull);
    assert_eq!(ssl("requiressl=1").mode, SslMode::Require);
    assert_eq!(ssl("requiressl=1 sslmode=disable").mode, SslMode::Disable);
    assert_eq!(parsed("postgres:///?ssl=true").ssl.mode, SslMode::Require);
    assert!(ssl("").authorities == Authorities::Default(Some("/nonexistent/.postgresql/root.crt".into())));
    assert!(ssl("sslinline=1 sslrootcert=PEM").authorities == Authorities::Inline("PEM".into()));
    let files = |certificate: &str, key: &str| ClientCertificate::Files {
        certificate: certificate.into(),
        key: key.into(),
    };
    assert!(ssl("sslcert=/c sslkey=/k").client == files("/c", "/k"));
    assert!(ssl("sslcert=/c").client == files("/c", "/nonexistent/.postgresql/postgresql.key"));
    let inline = ClientCertificate::Inline { certificate: "C".into(), key: "K".into() };
    assert!(ssl("sslinline=yes sslcert=C sslkey=K").client == inline);
    assert!(ssl("sslcert=/c sslkey=/k sslcertmode=disable").client == ClientCertificate::None);
    assert!(ssl("sslmode=require sslnegotiation=direct").direct);
    assert_eq!(ssl("channel_binding=require").binding, BindingMode::Require);
    let versions = |tls12, tls13| TlsVersions { tls12, tls13 };
    assert_eq!(ssl("").versions, versions(true, true));
    assert_eq!(ssl("ssl_min_protocol_version=TLSv1.3").versions, versions(false, true));
    assert_eq!(
        ssl("ssl_min_protocol_version=TLSv1 ssl_max_protocol_version=TLSv1.2").versions,
        versions(true, false)
    );
}

#[test]
fn one_of_several_hosts_must_accept_writes() {
    assert_eq!(parsed("host=a").target, TargetSession::Any);
    assert_eq!(parsed("host=a,b").target, TargetSession::ReadWrite);
    assert_eq!(parsed("host=a,b target_session_attrs=any").target, TargetSession::Any);
}

#[test]
fn no_output_shows_a_value() {
    let texts = [
        "postgres://us3r:hunter2@db/app?x=hunter2&options=hunter2&application_name=hunter2",
        "host=db user=us3r password=hunter2 hunter2=hunter2 dbname=hunter2 passfile=hunter2",
        "host=db sslinline=1 sslkey=hunter2 sslcert=hunter2 sslrootcert=hunter2 timezone=hunter2",
        "postgres://us3r:hunter2/x@db/app",
        "postgres://us3r:1?hunter2@db/app",
        "postgres://us3r:%zzhunter2@db/app",
        "postgres://us3r:hunter2 /app",
        "postgres://us3r:hunter2/app",
        "postgres://db/app?hunter2",
        "postgres://db/app?hunter2 =1",
        "postgres://db/app?sslmode=hunter2",
        "host=db password='hunter2",
        "host=db password=x hunter2",
        "hunter2://us3r",
        "port=hunter2",
    ];
    for text in texts {
        let shown = match Settings::parse_in(text, &bare()) {
            Ok(settings) => format!("{settings:?}"),
            Err(error) => format!("{error} {error:?}"),
        };
        assert!(!shown.contains("us3r") && !shown.contains("hunter2"), "{text}: {shown}");
    }
}
