//! `SessionOptions`.

/// How a [`Session`](crate::Session) is to run.
///
/// ```
/// use sardonyx::SessionOptions;
/// let options = SessionOptions::new().plan_cache(4).fusion(false);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SessionOptions {
    pub(super) plan_cache: usize,
    pub(super) fusion: bool,
}

impl Default for SessionOptions {
    fn default() -> SessionOptions {
        SessionOptions { plan_cache: 16, fusion: true }
    }
}

impl SessionOptions {
    /// What serves most models.
    pub fn new() -> SessionOptions {
        SessionOptions::default()
    }

    /// How many plans are kept (16), one for each signature of input shapes; the least recently used is dropped. 0 counts
    /// as 1.
    pub fn plan_cache(mut self, plans: usize) -> SessionOptions {
        self.plan_cache = plans.max(1);
        self
    }

    /// Whether operators may be fused (yes). Without, each node is a kernel of its own: for finding out what is wrong.
    pub fn fusion(mut self, fusion: bool) -> SessionOptions {
        self.fusion = fusion;
        self
    }
}
