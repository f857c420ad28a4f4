//! Gobs that Go's encoder wrote, and damaged ones. The vectors lie with the library that uses this crate.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::path::{Path, PathBuf};

use cloakroom_gob::{ErrorKind, Gob, from_value};
use serde_json::Value as Json;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../cloakroom/tests/vectors/gob")
}

fn json(file: &str) -> Vec<Json> {
    serde_json::from_slice(&std::fs::read(folder().join(file)).unwrap()).unwrap()
}

#[test]
fn every_gob_of_go_round_trips_byte_for_byte() {
    let vectors = json("vectors.json");
    assert_eq!(vectors.len(), 145);
    for vector in &vectors {
        let bytes = std::fs::read(folder().join(vector["file"].as_str().unwrap())).unwrap();
        let gob = Gob::decode(&bytes).unwrap_or_else(|error| panic!("{}: {error}", vector["name"]));
        // This vector defines a type that no value uses.
        if vector["name"] != "url_ptr" {
            assert_eq!(gob.encode().unwrap(), bytes, "{}", vector["name"]);
        }
        // Every value has a JSON form, except for maps whose keys are no JSON keys.
        if let Err(error) = from_value::<Json>(&gob.types, gob.id, &gob.value) {
            assert_eq!(error.kind(), ErrorKind::Value);
        }
    }
}

#[test]
fn a_damaged_gob_is_an_error_or_a_stable_value() {
    let blobs = json("malformed.json");
    assert_eq!(blobs.len(), 1207);
    let mut refused = 0;
    for blob in &blobs {
        let bytes = data_encoding::HEXLOWER.decode(blob["hex"].as_str().unwrap().as_bytes()).unwrap();
        match Gob::decode(&bytes) {
            Ok(gob) => {
                let written = gob.encode().unwrap();
                assert_eq!(Gob::decode(&written).unwrap().encode().unwrap(), written);
            }
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::Malformed | ErrorKind::Limit), "{error}");
                assert_ne!(blob["go"], "ok", "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 500, "{refused}");
}

#[test]
fn every_prefix_of_a_gob_is_an_error() {
    let bytes = std::fs::read(folder().join("010.gob")).unwrap();
    for len in 0..bytes.len() {
        assert_eq!(Gob::decode(&bytes[..len]).unwrap_err().kind(), ErrorKind::Malformed, "{len}");
    }
}
