//! The context of a trace, as W3C has it (<https://www.w3.org/TR/trace-context/>): which trace a request is part of, and whether it is
//! to be recorded.

use std::fmt;
use std::hash::{BuildHasher, RandomState};

/// The place of a request in a trace. It is shown as the header `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TraceContext {
    trace: u128,
    /// The request itself.
    span: u64,
    /// What the client did when it asked, if it has said so.
    parent: Option<u64>,
    /// Whether the client records the trace.
    sampled: bool,
}

impl TraceContext {
    /// The context of a request with this header. What is no `traceparent` is left alone, and begins a new trace.
    pub(crate) fn of(header: Option<&str>) -> TraceContext {
        let (trace, parent, sampled) = match header.and_then(parse) {
            Some((trace, parent, sampled)) => (trace, Some(parent), sampled),
            None => (u128::from(random()) << 64 | u128::from(random()), None, false),
        };
        TraceContext { trace, span: random(), parent, sampled }
    }

    /// The context of a part of the request.
    pub(crate) fn child(&self) -> TraceContext {
        TraceContext { span: random(), parent: Some(self.span), ..*self }
    }

    /// Whether the client records the trace; `None` if it takes part in none.
    pub(crate) fn asked(&self) -> Option<bool> {
        self.parent.map(|_| self.sampled)
    }

    /// The context of what is recorded.
    pub(crate) fn recorded(&self) -> TraceContext {
        TraceContext { sampled: true, ..*self }
    }

    /// The request in 16 hexadecimal digits.
    pub(super) fn span_id(&self) -> String {
        format!("{:016x}", self.span)
    }

    /// What the request is part of.
    pub(super) fn parent_id(&self) -> Option<String> {
        Some(format!("{:016x}", self.parent?))
    }

    /// The trace in 32 hexadecimal digits.
    pub(crate) fn trace_id(&self) -> String {
        format!("{:032x}", self.trace)
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

/// `VERSION-TRACE-PARENT-FLAGS` in lowercase hexadecimal digits; later versions may say more behind it.
fn parse(text: &str) -> Option<(u128, u64, bool)> {
    let fits = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let mut parts = text.trim().split('-');
    let [version, trace, parent, flags] = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
    let whole = fits(version, 2) && fits(trace, 32) && fits(parent, 16) && fits(flags, 2);
    if !whole || version == "ff" || version == "00" && parts.next().is_some() {
        return None;
    }
    let (trace, parent) = (u128::from_str_radix(trace, 16).ok()?, u64::from_str_radix(parent, 16).ok()?);
    let sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
    (trace != 0 && parent != 0).then_some((trace, parent, sampled))
}

/// A number that no other is likely to be, and not 0. Nothing secret follows from it.
fn random() -> u64 {
    RandomState::new().hash_one(0).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_trace_goes_on() {
        let context = TraceContext::of(Some(HEADER));
        assert_eq!(context.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!((context.parent, context.sampled), (Some(0x00f0_67aa_0ba9_02b7), true));
        let shown = context.to_string();
        assert!(shown.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && shown.ends_with("-01"));
        assert_ne!(shown, HEADER, "the request has a span of its own");
        let part = context.child();
        assert_eq!((part.trace, part.parent), (context.trace, Some(context.span)));
        assert!(!TraceContext::of(Some(&HEADER.replace("-01", "-00"))).sampled);
        // A later version with more behind it.
        assert!(parse(&format!("{}-more", HEADER.replacen("00", "01", 1))).is_some());
    }

    #[test]
    fn what_is_no_context_begins_a_trace() {
        for text in [
            "",
            "00",
            &HEADER[1..],
            &HEADER.to_uppercase(),
            &HEADER.replacen("00", "ff", 1),
            &format!("{HEADER}-more"),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-000f067aa0ba902b7-01",
            "é0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            let context = TraceContext::of(Some(text));
            assert_eq!((context.parent, context.sampled), (None, false), "{text}");
        }
        assert_ne!(TraceContext::of(None).trace, TraceContext::of(None).trace);
    }
}
