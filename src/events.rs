//! What programs are told through `tracing`, if they turn the feature of that name on. Nothing of it is on the way of a run.

/// Tells of something, with a level of `tracing`'s, a message, and fields.
macro_rules! event {
    ($level:ident, $message:literal $(, $field:ident = $value:expr)* $(,)?) => {{
        #[cfg(feature = "tracing")]
        tracing::event!(target: "sardonyx", tracing::Level::$level, $($field = $value,)* $message);
        #[cfg(not(feature = "tracing"))]
        let _ = ($(&$value,)*);
    }};
}
pub(crate) use event;

/// Milliseconds since `start`.
pub(crate) fn milliseconds(start: std::time::Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}
