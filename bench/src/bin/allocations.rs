//! Prints the allocations of one request of a scenario, in the mean of a thousand. A program of its own, since counting them costs
//! instructions, which the other one counts.

use clap::Parser;
use cloakroom_bench::scenario::Scenario;

#[derive(Parser)]
struct Arguments {
    /// Which.
    scenario: Scenario,
    /// Under the session layer, or under one that does nothing.
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
