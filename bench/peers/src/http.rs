//! Requests a second over loopback. Each subject is a server process of its own; `wrk` sends the requests.

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use actix_web::{App, HttpServer};
use clap::ValueEnum as _;
use tempfile::NamedTempFile;

use crate::measure::{Samples, number};
use crate::report::{Chart, Report, Series, Table};
use crate::subject::{Places, Scenario, Subject};
use crate::{actix_apps, axum_routers, rig};

/// The connections that `wrk` keeps open.
const CONNECTIONS: &str = "64";

/// The visitors whose requests come in turn. They are more than the connections, so that no visitor has two requests
/// in progress.
const VISITORS: usize = 256;

const SCENARIOS: [Scenario; 4] =
    [Scenario::UntouchedWithCookie, Scenario::Read, Scenario::Change, Scenario::FirstVisit];

/// Prints its port and serves until it is killed.
pub fn serve(subject: Subject, places: &Places) {
    // The kernel kills this process when the measuring program ends for any reason.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    if subject.is_actix() {
        return serve_actix(subject, places);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime can be built").block_on(async {
        let router = axum_routers::router(subject, places).await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        println!("{}", listener.local_addr().expect("an address").port());
        axum::serve(listener, router).await.expect("the server runs until it is killed");
    });
}

fn serve_actix(subject: Subject, places: &Places) {
    let places = places.clone();
    actix_web::rt::System::new().block_on(async move {
        macro_rules! serve {
            ($app:expr) => {{
                let server = HttpServer::new($app).workers(2).bind("127.0.0.1:0").expect("a free port");
                println!("{}", server.addrs()[0].port());
                server.run().await.expect("the server runs until it is killed");
            }};
        }
        match subject {
            Subject::Actix => serve!(|| App::new().configure(actix_apps::bare_routes)),
            Subject::ActixSessionCookie => serve!(|| {
                App::new()
                    .wrap(actix_apps::layer(actix_apps::cookie_store()).build())
                    .configure(actix_apps::routes)
            }),
            _ => {
                let store = actix_apps::redis_store(&places).await;
                serve!(move || {
                    App::new().wrap(actix_apps::layer(store.clone()).build()).configure(actix_apps::routes)
                })
            }
        }
    });
}

/// Returns the subjects whose servers are in `places`; if `only` names some, these alone.
fn subjects(places: &Places, only: &[Subject]) -> Vec<Subject> {
    let all = Subject::value_variants().iter().copied();
    all.filter(|subject| {
        let name = subject.name();
        if !only.is_empty() && !only.contains(subject) {
            return false;
        }
        (!(name.ends_with("redis") || name.ends_with("near")) || !places.redis.is_empty())
            && (!name.ends_with("mysql") || !places.mysql.is_empty())
            && (!name.ends_with("postgres") || !places.postgres.is_empty())
            && (!subject.is_sqlx_peer() || !places.sqlx_peer.as_os_str().is_empty())
    })
    .collect()
}

pub fn run(report: &mut Report, places: &Places, only: &[Subject], quick: bool) -> Result<(), String> {
    let (rounds, seconds) = if quick { (1, "1s") } else { (3, "2s") };
    let servers: Vec<Server> = subjects(places, only)
        .into_iter()
        .map(|subject| Server::start(subject, places))
        .collect::<Result<_, _>>()?;
    let mut samples = vec![vec![Vec::new(); SCENARIOS.len()]; servers.len()];
    for _ in 0..rounds {
        for (place, scenario) in SCENARIOS.iter().enumerate() {
            for (server, samples) in servers.iter().zip(&mut samples) {
                samples[place].push(server.requests_a_second(*scenario, seconds)?);
            }
        }
    }
    let heads: Vec<String> = [String::new()]
        .into_iter()
        .chain(SCENARIOS.iter().map(|scenario| scenario.title().to_owned()))
        .collect();
    let mut table = Table::new(
        &format!(
            "Requests a second over loopback, {CONNECTIONS} connections, {VISITORS} visitors in turn (server, load generator and store share the processors)"
        ),
        &heads,
    );
    let mut chart = Chart::bars("http", "Requests a second over loopback");
    for (server, samples) in servers.iter().zip(samples) {
        let samples: Vec<_> = samples.into_iter().map(Samples::new).collect();
        let cells = samples.iter().map(|samples| match rounds {
            1 => number(samples.median(), 0),
            _ => samples.shown(0),
        });
        table.row([server.subject.title().to_owned()].into_iter().chain(cells).collect());
        let titles = SCENARIOS.iter().map(|scenario| scenario.title().to_owned());
        let values = titles.zip(samples.iter().map(Samples::median)).collect();
        chart.add(Series { name: server.subject.title().to_owned(), values });
    }
    report.table("http", table);
    report.chart(chart)
}

/// A server process. It is killed when this is dropped.
struct Server {
    subject: Subject,
    child: Child,
    port: u16,
    /// A script that has `wrk` send the requests of all visitors in turn. It is empty if no visitor got a cookie.
    visitors: NamedTempFile,
}

impl Server {
    fn start(subject: Subject, places: &Places) -> Result<Server, String> {
        let mut command = match places.of_sqlx_peer(subject) {
            Some(arguments) => {
                let mut command = Command::new(&places.sqlx_peer);
                command.args(arguments);
                command
            }
            None => {
                let program = std::env::current_exe().map_err(|error| error.to_string())?;
                let mut command = Command::new(program);
                command.arg("http").arg(subject.name()).arg("--folder").arg(&places.folder);
                command.args([
                    "--redis",
                    &places.redis,
                    "--mysql",
                    &places.mysql,
                    "--postgres",
                    &places.postgres,
                ]);
                command
            }
        };
        let child = command.stdout(Stdio::piped()).spawn().map_err(|error| error.to_string())?;
        let visitors = NamedTempFile::new().map_err(|error| error.to_string())?;
        let mut server = Server { subject, child, port: 0, visitors };
        let mut line = String::new();
        let output = server.child.stdout.take().ok_or("a server without output")?;
        BufReader::new(output).read_line(&mut line).map_err(|error| error.to_string())?;
        server.port = line.trim().parse().map_err(|_| format!("{} did not start", subject.title()))?;
        server.fill().map_err(|error| format!("{}: {error}", subject.title()))?;
        Ok(server)
    }

    /// Begins a session for every visitor.
    fn fill(&mut self) -> std::io::Result<()> {
        let mut cookies = Vec::new();
        for _ in 0..VISITORS {
            cookies.extend(self.visit()?);
        }
        if cookies.is_empty() {
            return Ok(());
        }
        let cookies: Vec<_> = cookies.iter().map(|cookie| format!("{cookie:?}")).collect();
        write!(
            self.visitors,
            "local cookies, requests, last = {{{}}}, {{}}, 0\n\
             function init(args)\n\
               for i, cookie in ipairs(cookies) do requests[i] = wrk.format(nil, nil, {{ Cookie = cookie }}) end\n\
             end\n\
             function request()\n\
               last = last % #requests + 1\n\
               return requests[last]\n\
             end\n",
            cookies.join(", ")
        )?;
        self.visitors.flush()
    }

    /// Begins a session and returns its cookie.
    fn visit(&self) -> std::io::Result<Option<String>> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.write_all(b"GET /change HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut response = String::new();
        stream.read_to_string(&mut response)?;
        let set = response.lines().filter_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("set-cookie").then_some(value.as_bytes())
        });
        Ok(rig::cookie(set).and_then(|cookie| cookie.to_str().ok().map(str::to_owned)))
    }

    fn requests_a_second(&self, scenario: Scenario, duration: &str) -> Result<f64, String> {
        let mut wrk = Command::new("wrk");
        wrk.args(["-t1", "-c", CONNECTIONS, "-d", duration]);
        if scenario.brings_cookie() && self.visitors.as_file().metadata().is_ok_and(|file| file.len() > 0) {
            wrk.arg("-s").arg(self.visitors.path());
        }
        let output = wrk.arg(format!("http://127.0.0.1:{}{}", self.port, scenario.path())).output();
        let output =
            output.map_err(|error| format!("cannot run wrk: {error}; install the Debian package wrk"))?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if said.contains("Non-2xx") {
            return Err(format!(
                "{}, {}: not every answer was a success\n{said}",
                self.subject.title(),
                scenario.title()
            ));
        }
        let found = said.lines().find_map(|line| line.strip_prefix("Requests/sec:")?.trim().parse().ok());
        let complaint = String::from_utf8_lossy(&output.stderr);
        found.ok_or_else(|| format!("expected a rate from wrk, found:\n{said}{complaint}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
