//! Prints the types and the value of a gob: `cargo run -p cloakroom-gob --example inspect FILE`.

use std::error::Error;

use cloakroom_gob::Gob;

fn main() -> Result<(), Box<dyn Error>> {
    let bytes = match std::env::args_os().nth(1) {
        Some(file) => std::fs::read(file)?,
        None => cloakroom_gob::to_vec(&["no file was named", "so this is an example"])?,
    };
    let gob = Gob::decode(&bytes)?;
    println!("{:#?}", gob.types);
    println!("{:#?}", gob.value);
    Ok(())
}
