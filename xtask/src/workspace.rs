//! The packages and features of this workspace, from `cargo metadata`.

use std::process::Stdio;

use serde_json::Value;

use crate::step::{StepError, cargo};

/// The packages of this workspace, without their dependencies.
#[derive(Debug)]
pub(crate) struct Workspace {
    packages: Vec<Value>,
}

impl Workspace {
    /// Runs `cargo metadata`.
    pub(crate) fn load() -> Result<Workspace, StepError> {
        let mut command = cargo(["metadata", "--no-deps", "--format-version", "1"]);
        let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
        let output =
            output.map_err(|source| StepError::NotStarted { program: "cargo".to_owned(), source })?;
        if output.status.success() {
            Workspace::parse(&output.stdout)
        } else {
            Err(StepError::Failed { name: "cargo metadata".to_owned(), status: output.status })
        }
    }

    fn parse(json: &[u8]) -> Result<Workspace, StepError> {
        let mut metadata: Value = serde_json::from_slice(json)?;
        match metadata["packages"].take() {
            Value::Array(packages) => Ok(Workspace { packages }),
            _ => Err(StepError::Metadata { found: "none" }),
        }
    }

    /// Returns the names of `package`'s features without `default`, which only enables others.
    pub(crate) fn features(&self, package: &str) -> Result<Vec<String>, StepError> {
        let features = self.package(package).and_then(|package| package["features"].as_object());
        let features = features.ok_or(StepError::Metadata { found: "a library package without features" })?;
        Ok(features.keys().filter(|name| *name != "default").cloned().collect())
    }

    fn package(&self, name: &str) -> Option<&Value> {
        self.packages.iter().find(|package| package["name"] == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_those_of_the_package_without_default() {
        let json = br#"{"packages": [
            {"name": "other", "features": {"loud": []}},
            {"name": "cloakroom", "features": {"default": ["file"], "tower": [], "file": ["dep:rustix"]}}
        ]}"#;
        let workspace = Workspace::parse(json).unwrap();
        assert_eq!(workspace.features("cloakroom").unwrap(), ["file", "tower"]);
        assert!(matches!(workspace.features("bench"), Err(StepError::Metadata { .. })));
    }

    #[test]
    fn other_output_than_metadata_is_an_error() {
        assert!(matches!(Workspace::parse(b"{}"), Err(StepError::Metadata { .. })));
        assert!(matches!(Workspace::parse(b"no json"), Err(StepError::MetadataForm(_))));
    }

    #[test]
    fn this_workspace_can_be_read() {
        let features = Workspace::load().unwrap().features("cloakroom").unwrap();
        assert!(features.iter().any(|name| name == "memory"), "{features:?}");
    }
}
