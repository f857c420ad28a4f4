//! Steps that are undone if a request fails.

/// Runs its steps when it is dropped, unless the request succeeded first.
#[derive(Default)]
pub(crate) struct Undo(Vec<Box<dyn FnOnce() + Send>>);

impl Undo {
    pub(crate) fn add(&mut self, step: impl FnOnce() + Send + 'static) {
        self.0.push(Box::new(step));
    }

    /// Drops the steps: the request succeeded.
    pub(super) fn dismiss(mut self) {
        self.0.clear();
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        self.0.drain(..).for_each(|step| step());
    }
}
