//! The events that programs get through `tracing`, if they turn the feature of that name on. A run of a plan that is ready
//! reports none.

/// Reports an event, with a level of `tracing`, a message, and fields.
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
