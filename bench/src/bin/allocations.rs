//! Prints the mean allocations of one request of a scenario.
//!
//! This is a program of its own: its counting allocator costs instructions, which the other program counts.

use clap::Parser;
use cloakroom_bench::scenario::Scenario;

#[derive(Parser)]
struct Arguments {
    /// The scenario
    scenario: Scenario,
    /// Use a layer that does nothing instead of the session layer
    #[arg(long)]
    bare: bool,
}

fn main() {
    const REQUESTS: u32 = 1000;
    let Arguments { scenario, bare } = Arguments::parse();
    let mut rig = scenario.rig(!bare);
    rig.request();
    let counted = allocation_counter::measure(|| (0..REQUESTS).for_each(|_| rig.request()));
    println!("{}", counted.count_total as f64 / f64::from(REQUESTS));
}
