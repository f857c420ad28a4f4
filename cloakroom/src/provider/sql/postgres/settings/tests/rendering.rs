//! Settings as text and back.

use proptest::prelude::*;

use super::*;

/// The parts of a connection string.
#[derive(Clone, Debug)]
struct Written {
    user: String,
    password: String,
    database: String,
    hosts: Vec<(String, u16)>,
    server: Vec<(String, String)>,
    table: String,
}

impl Written {
    fn url(&self) -> String {
        let hosts = self.hosts.iter().map(|(host, port)| {
            if host.contains(':') { format!("[{host}]:{port}") } else { format!("{}:{port}", encoded(host)) }
        });
        let hosts: Vec<_> = hosts.collect();
        let login = format!("{}:{}", encoded(&self.user), encoded(&self.password));
        let mut url = format!(
            "postgres://{login}@{}/{}?table={}",
            hosts.join(","),
            encoded(&self.database),
            encoded(&self.table)
        );
        for (name, value) in &self.server {
            url += &format!("&{}={}", encoded(name), encoded(value));
        }
        url
    }

    fn pairs(&self) -> String {
        let hosts: Vec<_> = self.hosts.iter().map(|(host, _)| &**host).collect();
        let ports: Vec<_> = self.hosts.iter().map(|(_, port)| port.to_string()).collect();
        let own = [
            ("user", &self.user),
            ("password", &self.password),
            ("dbname", &self.database),
            ("host", &hosts.join(",")),
            ("port", &ports.join(",")),
            ("table", &self.table),
        ];
        let own = own.map(|(name, value)| (name.to_owned(), value.clone()));
        let quoted = |(name, value): &(String, String)| {
            format!("{name} = '{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
        };
        own.iter().chain(&self.server).map(quoted).collect::<Vec<_>>().join(" ")
    }
}

fn encoded(text: &str) -> String {
    let byte = |byte: u8| {
        if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02x}") }
    };
    text.bytes().map(byte).collect()
}

prop_compose! {
    fn written()(
        user in "[^\0]{1,8}",
        password in "[^\0]{1,12}",
        database in "[^\0]{1,8}",
        hosts in prop::collection::vec(("[a-z][a-z0-9.-]{0,8}|/[a-z/]{1,8}|::1|10\\.0\\.0\\.[1-9]", 1..=u16::MAX), 1..4),
        server in prop::collection::btree_map("x_[a-z]{1,6}\\.[a-z]{1,6}", "[^\0]{0,8}", 0..3),
        table in "[^\0.]{1,8}",
    ) -> Written {
        Written { user, password, database, hosts, server: server.into_iter().collect(), table }
    }
}

proptest! {
    #[test]
    fn a_rendered_string_parses_to_what_was_written(written in written()) {
        let (url, pairs) = (parsed(&written.url()), parsed(&written.pairs()));
        prop_assert_eq!(&url, &pairs);
        prop_assert_eq!(&*url.login.user, &*written.user);
        prop_assert_eq!(url.login.password.as_deref(), Some(&*written.password));
        prop_assert_eq!(url.login.database.as_deref(), Some(&*written.database));
        prop_assert_eq!(url.params.table.as_deref(), Some(&*written.table));
        let host = |host: &ServerHost| match &host.name {
            HostName::Tcp(name) => (name.to_string(), host.port),
            HostName::Socket(folder) => (folder.to_str().unwrap().to_owned(), host.port),
            HostName::Unnamed => panic!("each host has a name"),
        };
        prop_assert_eq!(url.hosts.iter().map(host).collect::<Vec<_>>(), written.hosts);
        let server = url.server.iter().map(|set| (set.name.to_string(), set.value.to_string()));
        prop_assert_eq!(server.collect::<Vec<_>>(), written.server);
    }

    #[test]
    fn no_text_panics_and_no_error_is_long(text in "(postgres://)?[-a-z0-9=&?@:/,%+'\\\\ \\[\\]._\u{0}\u{e4}]{0,60}") {
        match Settings::parse_in(&text, &bare()) {
            Ok(settings) => prop_assert!(!settings.hosts.is_empty()),
            Err(error) => prop_assert!(error.to_string().len() < 300),
        }
    }

    #[test]
    fn an_escaped_option_is_one_word_to_the_server(value in "[^\0]{0,20}") {
        let setting = params::ServerSetting { name: "x.y".into(), value: value.clone().into() };
        prop_assert_eq!(words(&setting.option()), ["-c".to_owned(), format!("x.y={value}")]);
    }
}

/// Splits a line of options as PostgreSQL's `pg_split_opts` does.
fn words(line: &str) -> Vec<String> {
    let blank = |char: char| matches!(char, ' ' | '\t' | '\n' | '\u{b}' | '\u{c}' | '\r');
    let mut words = vec![String::new()];
    let mut chars = line.chars();
    while let Some(char) = chars.next() {
        match (char, words.last_mut()) {
            ('\\', Some(word)) => word.extend(chars.next()),
            (char, _) if blank(char) => words.push(String::new()),
            (char, Some(word)) => word.push(char),
            (_, None) => {}
        }
    }
    words
}
