use std::time::Duration;

use super::hosts::HostName;
use super::*;

/// An environment without variables, of the user `someone` whose home directory does not exist.
fn bare() -> Environment {
    Environment { values: Vec::new(), home: Some("/nonexistent".into()), user: || Some("someone".to_owned()) }
}

fn with_variables(variables: &[(&str, &str)]) -> Environment {
    let place = |name: &str| environment::VARIABLES.iter().position(|(known, _)| *known == name).unwrap();
    let values = variables.iter().map(|(name, value)| (place(name), (*value).to_owned())).collect();
    Environment { values, ..bare() }
}

#[track_caller]
fn parsed(text: &str) -> Settings {
    Settings::parse_in(text, &bare()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[track_caller]
fn refused(text: &str) -> SettingsError {
    match Settings::parse_in(text, &bare()) {
        Ok(settings) => panic!("{text}: accepted as {settings:?}"),
        Err(error) => error,
    }
}

fn tcp(host: &str, port: u16) -> ServerHost {
    ServerHost { name: HostName::Tcp(host.into()), address: None, port }
}

fn socket(folder: &str, port: u16) -> ServerHost {
    ServerHost { name: HostName::Socket(folder.into()), address: None, port }
}

/// User, password, database and hosts.
type Parts = (&'static str, Option<&'static str>, Option<&'static str>, Vec<ServerHost>);

#[track_caller]
fn assert_parts(text: &str, (user, password, database, hosts): Parts) {
    let settings = parsed(text);
    let login = &settings.login;
    assert_eq!((&*login.user, login.password.as_deref()), (user, password), "{text}");
    assert_eq!(login.database.as_deref(), database, "{text}");
    assert_eq!(&*settings.hosts, hosts, "{text}");
}

#[test]
fn urls_are_parsed() {
    let forms: Vec<(&str, Parts)> = vec![
        ("postgres://", ("someone", None, None, vec![tcp("localhost", 5432)])),
        ("postgresql://db", ("someone", None, None, vec![tcp("db", 5432)])),
        ("postgres://db:5433/app", ("someone", None, Some("app"), vec![tcp("db", 5433)])),
        ("postgres://u@db/app", ("u", None, Some("app"), vec![tcp("db", 5432)])),
        ("postgres://u:p@db/app", ("u", Some("p"), Some("app"), vec![tcp("db", 5432)])),
        ("postgres://u:@db/app", ("u", None, Some("app"), vec![tcp("db", 5432)])),
        ("postgres://u:p:q@db/app", ("u", Some("p:q"), Some("app"), vec![tcp("db", 5432)])),
        ("postgres://u:p@w@db/app", ("u", Some("p@w"), Some("app"), vec![tcp("db", 5432)])),
        (
            "postgres://us%40er:p%2F%3A%3Fw%25@db/a%20b",
            ("us@er", Some("p/:?w%"), Some("a b"), vec![tcp("db", 5432)]),
        ),
        ("postgres://u@[::1]:6000/app", ("u", None, Some("app"), vec![tcp("::1", 6000)])),
        ("postgres://u@[::1]/app", ("u", None, Some("app"), vec![tcp("::1", 5432)])),
        (
            "postgres://a:1,b,[::1]:3/app",
            ("someone", None, Some("app"), vec![tcp("a", 1), tcp("b", 5432), tcp("::1", 3)]),
        ),
        ("postgres://a,b/app?port=1,2", ("someone", None, Some("app"), vec![tcp("a", 1), tcp("b", 2)])),
        ("postgres://a,b:7/app?port=9", ("someone", None, Some("app"), vec![tcp("a", 9), tcp("b", 9)])),
        ("postgres://u@%2Frun%2Fpg/app", ("u", None, Some("app"), vec![socket("/run/pg", 5432)])),
        ("postgres://u@%2Frun%2Fpg:5433/app", ("u", None, Some("app"), vec![socket("/run/pg", 5433)])),
        ("postgres:///app?host=/run/pg&user=u", ("u", None, Some("app"), vec![socket("/run/pg", 5432)])),
        (
            "postgres://localhost/app?host=%2Frun%2Fpg",
            ("someone", None, Some("app"), vec![socket("/run/pg", 5432)]),
        ),
        (
            "postgres://u:p@db/app?user=v&password=w&dbname=x",
            ("v", Some("w"), Some("x"), vec![tcp("db", 5432)]),
        ),
        ("postgres://db/app\n", ("someone", None, Some("app"), vec![tcp("db", 5432)])),
        ("postgres://db/app?", ("someone", None, Some("app"), vec![tcp("db", 5432)])),
    ];
    for (text, parts) in forms {
        assert_parts(text, parts);
    }
}

#[test]
fn strings_of_names_and_values_are_parsed() {
    let forms: Vec<(&str, Parts)> = vec![
        ("", ("someone", None, None, vec![tcp("localhost", 5432)])),
        ("host=db user=u password=p dbname=app", ("u", Some("p"), Some("app"), vec![tcp("db", 5432)])),
        ("  host = db\n user\t=u  ", ("u", None, None, vec![tcp("db", 5432)])),
        (
            r"user=space\ man password='it\'s a \\ '",
            ("space man", Some(r"it's a \ "), None, vec![tcp("localhost", 5432)]),
        ),
        ("user='' password=''dbname=x", ("someone", None, Some("x"), vec![tcp("localhost", 5432)])),
        ("user=u password=a=b'c", ("u", Some("a=b'c"), None, vec![tcp("localhost", 5432)])),
        ("user=a user=b database=app", ("b", None, Some("app"), vec![tcp("localhost", 5432)])),
        ("password= dbname=x", ("someone", Some("dbname=x"), None, vec![tcp("localhost", 5432)])),
        ("host=a,b,::1 port=1,,3", ("someone", None, None, vec![tcp("a", 1), tcp("b", 5432), tcp("::1", 3)])),
        ("host=/run/pg,db port=6", ("someone", None, None, vec![socket("/run/pg", 6), tcp("db", 6)])),
        ("user=u password='p w'port=7", ("u", Some("p w"), None, vec![tcp("localhost", 7)])),
        ("dbname=x options=", ("someone", None, Some("x"), vec![tcp("localhost", 5432)])),
    ];
    for (text, parts) in forms {
        assert_parts(text, parts);
    }
}

#[test]
fn a_wrong_form_is_refused() {
    for (text, error) in [
        ("mysql://u@db/app", SettingsError::Scheme),
        ("jdbc:postgresql://db/app", SettingsError::Scheme),
        ("host", SettingsError::NoValue { place: 1 }),
        ("host=db port", SettingsError::NoValue { place: 2 }),
        ("host=db port 5432", SettingsError::NoValue { place: 2 }),
        ("user='abc", SettingsError::Quote { place: 1 }),
        ("host=db user=abc\\", SettingsError::Quote { place: 2 }),
        ("us\0er=1", SettingsError::Nul),
        ("postgres://u:p/w@db/app", SettingsError::Login),
        ("postgres://u:1?w@db/app", SettingsError::Login),
        ("postgres://u:%zz@db/app", SettingsError::Login),
        ("postgres://db/app?user=a@b", SettingsError::Login),
        ("postgres://db/a%b", SettingsError::Database),
        ("postgres://[::1/app", SettingsError::Bracket),
        ("postgres://[::1]5432/app", SettingsError::Bracket),
        ("postgres://[db]:5432/app", SettingsError::Bracket),
        ("postgres://d b/app", SettingsError::Host),
        ("postgres://a%2Cb/app", SettingsError::Host),
        ("postgres://db/app?port", SettingsError::NoValue { place: 1 }),
        ("postgres://db/app?pool=1&user=%z", SettingsError::Encoding { place: 2 }),
        ("postgres://db/app?options=a+b", SettingsError::Plus { place: 1 }),
        ("postgres://db/app?user=a&pool=1&user=b", SettingsError::Twice { place: 3 }),
        ("host=a,b hostaddr=1.1.1.1", SettingsError::HostCount { hosts: 2, addresses: 1 }),
        ("host=a,b,c port=1,2", SettingsError::PortCount { ports: 2, hosts: 3 }),
    ] {
        assert_eq!(refused(text), error, "{text}");
    }
    let nobody = Environment { user: || None, ..bare() };
    assert_eq!(Settings::parse_in("host=db", &nobody), Err(SettingsError::NoUser));
}

#[test]
fn numeric_addresses_stand_beside_names() {
    let settings = parsed("host=a,,c hostaddr=10.0.0.1,::1, port=1,2,3");
    let address = |text: &str| Some(text.parse().unwrap());
    assert_eq!(
        &*settings.hosts,
        [
            ServerHost { name: HostName::Tcp("a".into()), address: address("10.0.0.1"), port: 1 },
            ServerHost { name: HostName::Unnamed, address: address("::1"), port: 2 },
            ServerHost { name: HostName::Tcp("c".into()), address: None, port: 3 },
        ]
    );
    let unnamed = refused("hostaddr=10.0.0.1 sslmode=verify-full");
    assert!(matches!(unnamed, SettingsError::Refused { name: "hostaddr", .. }), "{unnamed}");
}

#[test]
fn parameters_of_cloakroom_are_honoured() {
    let params = parsed(
        "postgres://db/app?table=web.visits&pool=7&prepared_statements=false&durability=relaxed&deadline=1.5s\
         &create_table=no&connect_timeout=3",
    )
    .params;
    let expected = PostgresParams {
        schema: Some("web".into()),
        table: Some("visits".into()),
        pool: Some(7),
        prepared_statements: Some(false),
        durability: Some(CommitDurability::Relaxed),
        connect_timeout: Some(Duration::from_secs(3)),
        deadline: Some(Duration::from_millis(1500)),
        create_table: Some(false),
    };
    assert_eq!(params, expected);
    assert_eq!(parsed("").params, PostgresParams::default());
    assert_eq!(parsed("connect_timeout=-1").params.connect_timeout, Some(Duration::ZERO));
    assert_eq!(parsed("connect_timeout=250ms").params.connect_timeout, Some(Duration::from_millis(250)));
    assert_eq!(parsed("binary_parameters=yes").params.prepared_statements, Some(false));
    assert_eq!(parsed("binary_parameters=yes prepared_statements=1").params.prepared_statements, Some(true));
    assert_eq!(parsed("binary_parameters=no").params.prepared_statements, None);
}

mod parameters;
mod password_file;
mod real_servers;
mod rendering;
