//! What is to be done if a request comes to nothing.

/// Runs what was put into it when it is dropped, unless the request has come to its end before.
#[derive(Default)]
pub(super) struct Undo(Vec<Box<dyn FnOnce() + Send>>);

impl Undo {
    pub(super) fn add(&mut self, step: impl FnOnce() + Send + 'static) {
        self.0.push(Box::new(step));
    }

    /// The request has done what it was for.
    pub(super) fn dismiss(mut self) {
        self.0.clear();
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        self.0.drain(..).for_each(|step| step());
    }
}
