//! No repositories in object stores: the crate is built without the feature `object-store`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use super::url::url;
use crate::{Failure, Options};

/// There are none.
#[derive(Debug)]
pub(super) struct Remotes;

impl Remotes {
    pub(super) fn open(options: &Options) -> Result<(Vec<PathBuf>, Remotes), Failure> {
        match options.repositories.iter().find_map(|repository| url(repository)) {
            None => Ok((options.repositories.clone(), Remotes)),
            Some(url) => Err(Failure::invalid(format!(
                "{url}: this program was built to serve folders alone; build it with the feature object-store \
                 (`cargo install --path crates/cli --features object-store`), or copy the models into a folder"
            ))),
        }
    }

    pub(super) async fn mirror_all(&self, _: Option<Duration>) -> Vec<Failure> {
        Vec::new()
    }

    pub(super) async fn mirror(&self, _: &str) -> Result<(), Failure> {
        Ok(())
    }

    pub(super) async fn list(&self) -> Vec<Failure> {
        Vec::new()
    }

    pub(super) fn names(&self) -> BTreeSet<String> {
        BTreeSet::new()
    }

    pub(super) fn are_complete(&self) -> bool {
        true
    }
}
