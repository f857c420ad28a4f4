use std::time::Duration;

use super::*;

fn parsed(text: &str) -> Dsn {
    Dsn::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refused(text: &str) -> DsnError {
    Dsn::parse(text).expect_err(text)
}

fn host(host: &str, port: u16) -> DsnAddress {
    DsnAddress::Tcp { host: host.into(), port }
}

fn socket(path: &str) -> DsnAddress {
    DsnAddress::Unix { socket: path.into() }
}

/// User, password, address and database.
type Parts = (Option<&'static str>, Option<&'static str>, DsnAddress, &'static str);

#[test]
fn data_source_names_are_parsed_as_go_parses_them() {
    let forms: Vec<(&str, Parts)> = vec![
        ("", (None, None, host("127.0.0.1", 3306), "")),
        ("/", (None, None, host("127.0.0.1", 3306), "")),
        ("@/", (None, None, host("127.0.0.1", 3306), "")),
        ("/app", (None, None, host("127.0.0.1", 3306), "app")),
        ("user:password@/app", (Some("user"), Some("password"), host("127.0.0.1", 3306), "app")),
        ("user@/app", (Some("user"), None, host("127.0.0.1", 3306), "app")),
        ("user:@/app", (Some("user"), None, host("127.0.0.1", 3306), "app")),
        (
            "root:secret@tcp(127.0.0.1:3306)/app?charset=utf8mb4",
            (Some("root"), Some("secret"), host("127.0.0.1", 3306), "app"),
        ),
        ("user@unix(/path/to.sock)/app?loc=UTC", (Some("user"), None, socket("/path/to.sock"), "app")),
        ("user:pw@unix/app", (Some("user"), Some("pw"), socket("/tmp/mysql.sock"), "app")),
        ("user:pw@tcp/app", (Some("user"), Some("pw"), host("127.0.0.1", 3306), "app")),
        ("user:pw@(db)/app", (Some("user"), Some("pw"), host("db", 3306), "app")),
        ("tcp(db.internal)/app", (None, None, host("db.internal", 3306), "app")),
        ("tcp(:3307)/app", (None, None, host("127.0.0.1", 3307), "app")),
        (
            "u:p@tcp([de:ad:be:ef::ca:fe]:80)/app",
            (Some("u"), Some("p"), host("de:ad:be:ef::ca:fe", 80), "app"),
        ),
        ("tcp([::1])/app", (None, None, host("::1", 3306), "app")),
        ("tcp(de:ad:be:ef::ca:fe)/app", (None, None, host("de:ad:be:ef::ca:fe", 3306), "app")),
        ("/app%2Fwith%25slash", (None, None, host("127.0.0.1", 3306), "app/with%slash")),
    ];
    for (text, (user, password, address, database)) in forms {
        let dsn = parsed(text);
        assert_eq!((dsn.user.as_deref(), dsn.password.as_deref()), (user, password), "{text}");
        assert_eq!((&dsn.address, &*dsn.database), (&address, database), "{text}");
    }
}

#[test]
fn a_password_may_hold_any_character_without_escaping() {
    for password in
        ["p@ss", "p:w", "p/w", "p?w=1", "p@tcp(x)/y", "p@/w@", "%41", "p&w", "(", ")", "ü", " ", "::", "@"]
    {
        let dsn = parsed(&format!("user:{password}@tcp(db:3307)/app?timeout=1s"));
        assert_eq!(dsn.password.as_deref(), Some(password));
        assert_eq!((dsn.user.as_deref(), dsn.address), (Some("user"), host("db", 3307)), "{password}");
        assert_eq!((&*dsn.database, dsn.params.connect), ("app", Some(Duration::from_secs(1))), "{password}");
    }
}

#[test]
fn what_the_driver_refuses_is_refused() {
    for (text, error) in [
        ("user:pass@tcp(1.2.3.4:3306)", DsnError::NoSlash),
        ("@tcp(addr/", DsnError::Parenthesis),
        ("@tcp(/", DsnError::Parenthesis),
        ("(/", DsnError::Parenthesis),
        ("tcp(addr)//", DsnError::Unescaped),
        ("user:pass@tcp(127.0.0.1:3306)/db/name", DsnError::Unescaped),
        ("/app%2", DsnError::Database),
        ("pipe(x)/app", DsnError::Protocol),
        ("unix(@abstract)/app", DsnError::Protocol),
        ("net()/", DsnError::Protocol),
        ("app/app", DsnError::Protocol),
        ("tcp([::1)/app", DsnError::Bracket),
        ("tcp([::1]3306)/app", DsnError::Bracket),
        ("tcp([localhost]:3306)/app", DsnError::Bracket),
        ("tcp(db:port)/app", DsnError::Port),
        ("tcp(db:0)/app", DsnError::Port),
        ("tcp(db:65536)/app", DsnError::Port),
        ("tcp(d b)/app", DsnError::Host),
        (":password@/app", DsnError::NoUser),
        ("us\0er@/app", DsnError::Nul),
        ("/app?tls", DsnError::NoValue { place: 1 }),
        ("/app?timeout=1s&loc=%z", DsnError::Encoding { place: 2 }),
        ("unix(/s)/app?tls=true", DsnError::VerifiedSocket),
    ] {
        assert_eq!(refused(text), error, "{text}");
    }
}

#[test]
fn parameters_are_honoured() {
    let all = "timeout=30s&readTimeout=0.5m&writeTimeout=1m30s&tls=skip-verify&maxAllowedPacket=4194304\
               &charset=utf8mb4,utf8&collation=utf8mb4_bin&rejectReadOnly=true&checkConnLiveness=false\
               &allowCleartextPasswords=1&table=visits&pool=7";
    let params = parsed(&format!("/app?{all}")).params;
    assert_eq!(params.connect, Some(Duration::from_secs(30)));
    assert_eq!(params.read, Some(Duration::from_secs(30)));
    assert_eq!(params.write, Some(Duration::from_secs(90)));
    assert_eq!(params.tls, Some(Tls::Unverified));
    assert_eq!(params.max_packet, Some(4_194_304));
    assert_eq!(params.charsets.iter().map(|name| &**name).collect::<Vec<_>>(), ["utf8mb4", "utf8"]);
    assert_eq!(params.collation.as_deref(), Some("utf8mb4_bin"));
    assert!(params.reject_read_only && params.unchecked && params.cleartext_passwords);
    assert_eq!((params.table.as_deref(), params.pool), (Some("visits"), Some(7)));
    assert_eq!(parsed("/app?").params, Params::default());
}

#[test]
fn the_last_of_two_parameters_counts() {
    assert_eq!(parsed("/app?timeout=1s&timeout=2s").params.connect, Some(Duration::from_secs(2)));
}

#[test]
fn tls_accepts_the_words_of_driver_and_server() {
    for (text, tls) in [
        ("tls=true", Tls::Verified),
        ("tls=1", Tls::Verified),
        ("tls=False", Tls::Off),
        ("tls=SKIP-VERIFY", Tls::Unverified),
        ("tls=preferred", Tls::Preferred),
        ("tls=skip-verify&allowFallbackToPlaintext=true", Tls::Preferred),
        ("ssl-mode=DISABLED", Tls::Off),
        ("ssl-mode=required", Tls::Unverified),
        ("ssl-mode=verify-ca&ssl-ca=%2Fca.pem", Tls::Authority),
        ("ssl-mode=VERIFY_IDENTITY&ssl-ca=%2Fca.pem&ssl-cert=%2Fc.pem&ssl-key=%2Fk.pem", Tls::Verified),
    ] {
        assert_eq!(parsed(&format!("/app?{text}")).params.tls, Some(tls), "{text}");
    }
    assert_eq!(parsed("/app?tls=true&ssl-ca=%2Fa.pem").params.ca.as_deref(), Some("/a.pem".as_ref()));
    assert_eq!(parsed("/app").params.tls, None);
}

#[test]
fn parameters_without_effect_are_accepted() {
    let params = parsed(
        "/app?parseTime=true&loc=Europe%2FBerlin&interpolateParams=true&multiStatements=true&clientFoundRows=true\
         &columnsWithAlias=true&compress=true&connectionAttributes=a:b&allowNativePasswords=true&timeTruncate=1h\
         &autocommit=true&tinyInt1IsBool=false&allowAllFiles=false&allowOldPasswords=false&allowFallbackToPlaintext=true",
    )
    .params;
    assert_eq!(format!("{params:?}"), format!("{:?}", Params::default()));
    assert!(params.variables.is_empty() && params.tls.is_none());
}

#[test]
fn an_unsupported_parameter_is_named() {
    for (text, name) in [
        ("allowAllFiles=true", "allowAllFiles"),
        ("allowOldPasswords=1", "allowOldPasswords"),
        ("allowNativePasswords=false", "allowNativePasswords"),
        ("serverPubKey=name", "serverPubKey"),
        ("strict=true", "strict"),
        ("autocommit=0", "autocommit"),
        ("autocommit=off", "autocommit"),
        ("allowCleartextPasswords=true", "allowCleartextPasswords"),
        ("tls=true&allowFallbackToPlaintext=true", "allowFallbackToPlaintext"),
        ("ssl-ca=%2Fca.pem", "ssl-ca, ssl-cert or ssl-key"),
        ("tls=skip-verify&ssl-ca=%2Fca.pem", "ssl-ca"),
        ("tls=true&ssl-key=%2Fk.pem", "ssl-cert"),
    ] {
        assert!(
            matches!(refused(&format!("/app?{text}")), DsnError::Refused { name: found, .. } if found == name),
            "{text}"
        );
    }
}

#[test]
fn the_error_of_a_wrong_value_names_its_parameter() {
    for (text, name) in [
        ("tls=custom", "tls"),
        ("ssl-mode=on", "ssl-mode"),
        ("timeout=30", "timeout"),
        ("readTimeout=-1s", "readTimeout"),
        ("parseTime=yes", "parseTime"),
        ("maxAllowedPacket=1MB", "maxAllowedPacket"),
        ("maxAllowedPacket=", "maxAllowedPacket"),
        ("pool=0", "pool"),
        ("pool=%2B1", "pool"),
        ("charset=utf8,", "charset"),
        ("collation=a'b", "collation"),
        ("socket=", "socket"),
    ] {
        assert!(
            matches!(refused(&format!("/app?{text}")), DsnError::Value { name: found, .. } if found == name),
            "{text}"
        );
    }
}

#[test]
fn a_misspelt_parameter_names_the_nearest_one() {
    for (text, nearest) in [
        ("readTimout", "readTimeout"),
        ("read_timeout", "readTimeout"),
        ("TIMEOUT", "timeout"),
        ("parsetime", "parseTime"),
        ("sslmode", "ssl-mode"),
        ("multiStatement", "multiStatements"),
        ("AutoCommit", "autocommit"),
    ] {
        assert_eq!(refused(&format!("/app?{text}=1")), DsnError::Unknown { place: 1, nearest }, "{text}");
    }
}

#[test]
fn any_other_parameter_is_a_system_variable() {
    let dsn =
        parsed("/app?sql_mode=%27ANSI%27&lock_wait_timeout=5&tx_isolation=%22REPEATABLE-READ%22&x=ON&y=-1.5");
    let set: Vec<_> = dsn.params.variables.iter().map(|set| (&*set.name, &*set.literal)).collect();
    assert_eq!(
        set,
        [
            ("sql_mode", "'ANSI'"),
            ("lock_wait_timeout", "5"),
            ("tx_isolation", "\"REPEATABLE-READ\""),
            ("x", "ON"),
            ("y", "-1.5")
        ]
    );
    for value in [
        "",
        "1,y=2",
        "1;DROP TABLE t",
        "'a'b'",
        "'a\\'",
        "'a",
        "(SELECT 1)",
        "1--",
        "a b",
        "`x`",
        "''''",
        "'a\nb'",
    ] {
        let value: String = value.bytes().map(|byte| format!("%{byte:02x}")).collect();
        assert_eq!(refused(&format!("/app?x={value}")), DsnError::Literal { place: 1 }, "{value}");
    }
    for name in ["", "a b", "@@x", "x;", "x,y"] {
        assert_eq!(refused(&format!("/app?pool=1&{name}=1")), DsnError::Name { place: 2 }, "{name}");
    }
}

#[test]
fn urls_are_parsed() {
    let forms: Vec<(&str, Parts)> = vec![
        ("mysql://db/app", (None, None, host("db", 3306), "app")),
        ("mariadb://db/app", (None, None, host("db", 3306), "app")),
        ("mysql://user@db:3307/app", (Some("user"), None, host("db", 3307), "app")),
        (
            "mysql://us%40er:p%2F%3Aw%25@[::1]:3307/app",
            (Some("us@er"), Some("p/:w%"), host("::1", 3307), "app"),
        ),
        ("mysql://user:a:b@db", (Some("user"), Some("a:b"), host("db", 3306), "")),
        ("mysql://user:p@w@db/app", (Some("user"), Some("p@w"), host("db", 3306), "app")),
        ("mysql:///app", (None, None, host("127.0.0.1", 3306), "app")),
        (
            "mysql://user@localhost/app?socket=%2Frun%2Fdb.sock",
            (Some("user"), None, socket("/run/db.sock"), "app"),
        ),
        ("mysql://user@%2Frun%2Fdb.sock/app", (Some("user"), None, socket("/run/db.sock"), "app")),
        ("mysql://db/a%20b?timeout=1s", (None, None, host("db", 3306), "a b")),
    ];
    for (text, (user, password, address, database)) in forms {
        let dsn = parsed(text);
        assert_eq!((dsn.user.as_deref(), dsn.password.as_deref()), (user, password), "{text}");
        assert_eq!((&dsn.address, &*dsn.database), (&address, database), "{text}");
    }
    for (text, error) in [
        ("mysql://us%er@db/app", DsnError::Login),
        ("mysql://db/app/more", DsnError::Database),
        ("mysql://db:x/app", DsnError::Port),
        ("mysql://d%20b/app", DsnError::Host),
    ] {
        assert_eq!(refused(text), error, "{text}");
    }
}

#[test]
fn no_output_shows_a_credential() {
    let shown = format!("{:?}", parsed("us3r:hunter2@tcp(db)/app?x=hunter2&table=t&loc=hunter2"));
    assert!(!shown.contains("us3r") && !shown.contains("hunter2"), "{shown}");
    for text in [
        "us3r:hunter2@tcp(db)",
        "us3r:hunter2@tcp(db/app",
        "us3r:hunter2@tcp(db)/hunter2/app",
        "us3r:x@hunter2(db)/app",
        "us3r:x@tcp(db:hunter2)/app",
        "us3r:x@tcp([hunter2])/app",
        "us3r:x@tcp(db)/app?hunter2",
        "us3r:x@tcp(db)/app?hunter2 =1",
        "us3r:x@tcp(db)/app?tls=hunter2",
        "us3r:x@tcp(db)/app?timeout=hunter2",
        "us3r:x@tcp(db)/app?x=(hunter2)",
        "mysql://us3r:hunter2?x@db/app",
        "mysql://us3r:hunter2/x@db/app",
        "mysql://us3r:%hunter2@db/app",
    ] {
        let error = refused(text);
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("us3r") && !shown.contains("hunter2"), "{text}: {shown}");
    }
}
