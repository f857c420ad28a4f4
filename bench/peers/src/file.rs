//! A load of the file provider beside the bare system calls.

use std::fs::File;
use std::hint::black_box;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cloakroom::{FileProvider, Manager, Provider};

use crate::measure::{Dice, Elapsed, Runner, Samples, Turns, in_turns, number, process_cpu_time};
use crate::report::{Report, Table};
use crate::stores;

pub fn run(report: &mut Report, quick: bool) {
    let turns = Turns { rounds: if quick { 9 } else { 61 }, each: Duration::from_millis(5) };
    let sizes: &[usize] = if quick { &[1_000, 10_000] } else { &[1_000, 30_000, 1_000_000] };
    let mut table = Table::new(
        "A read of the file provider, microseconds of processor time, all threads",
        &["sessions", "open, read, close", "the provider's load", "ratio", "load, change and save"],
    );
    for size in sizes {
        let samples = at(*size, turns);
        let [bare, load, change] = [0, 1, 2].map(|place: usize| &samples[place]);
        let shown = |samples: &Samples| {
            let [low, median, high] = [0.1, 0.5, 0.9].map(|share| samples.at(share) / 1000.0);
            format!("{median:.2} ({low:.2} to {high:.2})")
        };
        let ratio = load.median() / bare.median();
        table.row(vec![
            number(*size as f64, 0),
            shown(bare),
            shown(load),
            format!("{ratio:.2}"),
            shown(change),
        ]);
    }
    report.table("file", table);
}

fn at(size: usize, turns: Turns) -> Vec<Samples> {
    let folder = tempfile::tempdir().expect("a folder");
    let provider = FileProvider::connect(folder.path()).expect("the folder can be made");
    let manager = Manager::builder(provider.clone()).build().expect("the defaults work together");
    let runtime = stores::runtime();
    let (keys, cookies) = runtime.block_on(async {
        let mut cookies = Vec::new();
        for _ in 0..size {
            cookies.push(stores::new_session(&manager, "0123456789abcdef").await);
        }
        (stores::keys(&provider).await, cookies)
    });
    let paths = files(folder.path());
    let mut bare = (Dice::new(13), Vec::new());
    let mut load = Dice::new(13);
    let mut change = Dice::new(13);
    let mut runners = [
        Runner::new(|count| {
            let (dice, buffer) = &mut bare;
            timed(|| {
                for _ in 0..count {
                    buffer.clear();
                    let mut file = File::open(&paths[dice.below(paths.len())]).expect("the file exists");
                    black_box(file.read_to_end(buffer)).expect("the file is readable");
                }
            })
        }),
        Runner::new(|count| {
            timed(|| {
                runtime.block_on(async {
                    for _ in 0..count {
                        let found = provider.load(&keys[load.below(keys.len())]).await;
                        assert!(black_box(found).is_ok_and(|found| found.is_some()));
                    }
                });
            })
        }),
        Runner::new(|count| {
            timed(|| {
                runtime.block_on(async {
                    for _ in 0..count {
                        let headers = crate::rig::headers(&cookies[change.below(cookies.len())]);
                        let session = manager.start(&headers).await.expect("the folder exists");
                        session.set("n", 1_u64).expect("the value fits");
                        let _ = session
                            .release(&mut http::HeaderMap::new())
                            .await
                            .expect("the folder is writable");
                    }
                });
            })
        }),
    ];
    in_turns(&mut runners, turns)
}

/// Measures the processor time of all threads. It cannot tell whether another process disturbed them, since the
/// threads wait for each other.
fn timed(work: impl FnOnce()) -> Elapsed {
    let start = process_cpu_time();
    work();
    let cpu = process_cpu_time() - start;
    Elapsed { cpu, wall: cpu }
}

/// Returns the file of every session.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("it can be read").flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(path),
                Ok(_) if entry.metadata().is_ok_and(|metadata| metadata.len() > 72) => found.push(path),
                _ => {}
            }
        }
    }
    found
}
