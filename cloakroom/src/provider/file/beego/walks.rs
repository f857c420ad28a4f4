//! The steps over many values: counts, lists and garbage collection.

use std::ops::ControlFlow;
use std::os::fd::OwnedFd;

use super::keys::ValueLock;
use super::{BeegoFolder, format};
use crate::error::{ErrorKind, Result};
use crate::id::StoreKey;
use crate::provider::file::count::CountStep;
use crate::provider::file::walk::{Leaf, RECORDS_PER_STEP, walk};
use crate::provider::foreign::FoundValue;
use crate::provider::{Collected, Cursor};
use crate::record::Record;

impl BeegoFolder {
    pub(super) fn count(&self, after: &str, until: Option<&str>) -> Result<CountStep> {
        let (mut count, mut over) = (0, false);
        let next = self.for_each(after, &mut |_, key, found| {
            over = until.is_some_and(|until| key.as_str() >= until);
            if over {
                return Ok(ControlFlow::Break(()));
            }
            count += u64::from(self.is_live(&found));
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(CountStep { count, next: next.filter(|_| !over) })
    }

    pub(super) fn remove_expired(&self, last: &mut String, limit: usize) -> Result<Collected> {
        let mut removed = 0;
        let next = self.for_each(&std::mem::take(last), &mut |root, key, found| {
            if self.is_live(&found) {
                return Ok(ControlFlow::Continue(()));
            }
            if removed == limit {
                return Ok(ControlFlow::Break(()));
            }
            // Advance before the lock, which may fail, so that the next step does not fail at the same value.
            *last = key.as_str().to_owned();
            // A use since the first read keeps the value.
            if let ValueLock::Locked(held) = self.lock_any(root, key)?
                && !self.is_live(&held.found)
            {
                format::unlink(root, key, self.sync)?;
                removed += 1;
            }
            Ok(ControlFlow::Continue(()))
        })?;
        let more = next.is_some();
        *last = next.unwrap_or_default();
        Ok(Collected { removed, more })
    }

    #[expect(clippy::type_complexity, reason = "the return type of `Values::scan`")]
    pub(super) fn scan(
        &self,
        after: &str,
        limit: usize,
    ) -> Result<(Vec<(StoreKey, FoundValue)>, Option<Cursor>)> {
        let mut page = Vec::new();
        let next = self.for_each(after, &mut |_, key, found| {
            if !self.is_live(&found) {
                return Ok(ControlFlow::Continue(()));
            }
            if page.len() == limit {
                return Ok(ControlFlow::Break(()));
            }
            page.push((key.clone(), found));
            Ok(ControlFlow::Continue(()))
        })?;
        Ok((page, next.map(Cursor::new)))
    }

    /// Calls `visit` for each value after `after`, in the order of the keys, expired ones too. It skips records in the native format.
    /// A call is one bounded step. It returns the key after which the next step begins, or `None` at the end.
    #[expect(clippy::type_complexity, reason = "the parameters of a visitor, written once")]
    fn for_each(
        &self,
        after: &str,
        visit: &mut dyn FnMut(&OwnedFd, &StoreKey, FoundValue) -> Result<ControlFlow<()>>,
    ) -> Result<Option<String>> {
        let root = self.root()?;
        let (mut last, mut budget, mut next) = (after.to_owned(), RECORDS_PER_STEP, None);
        walk(&root.0, after, &mut |leaf| {
            for key in leaf.keys.iter().filter(|key| key.as_str() > after) {
                let visited =
                    if budget == 0 { ControlFlow::Break(()) } else { self.visit(leaf, key, &root.0, visit)? };
                if visited.is_break() {
                    next = Some(last.clone());
                    return Ok(ControlFlow::Break(()));
                }
                budget -= 1;
                last = key.as_str().to_owned();
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(next)
    }

    #[expect(clippy::type_complexity, reason = "the parameters of a visitor, written once")]
    fn visit(
        &self,
        leaf: &Leaf,
        key: &StoreKey,
        root: &OwnedFd,
        visit: &mut dyn FnMut(&OwnedFd, &StoreKey, FoundValue) -> Result<ControlFlow<()>>,
    ) -> Result<ControlFlow<()>> {
        match self.read_file(&leaf.folder, key.as_str()) {
            Ok(Some(found)) if !found.value.starts_with(Record::BEGINNING) => visit(root, key, found),
            Ok(_) => Ok(ControlFlow::Continue(())),
            // A link or a pipe in a file's place is no session.
            Err(error) if error.kind() == ErrorKind::Corrupt => Ok(ControlFlow::Continue(())),
            Err(error) => Err(error),
        }
    }
}
