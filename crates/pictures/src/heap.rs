//! The host's memory. A vector that cannot grow ends the process, so whatever is as large as a picture asks for it first.

use sardonyx::{Error, Result};

/// An empty vector for `count` items.
pub(crate) fn reserved<T>(what: &str, count: usize) -> Result<Vec<T>> {
    let mut all = Vec::new();
    match all.try_reserve_exact(count) {
        Ok(()) => Ok(all),
        Err(_) => Err(out_of_memory(what, (count as u64).saturating_mul(size_of::<T>() as u64))),
    }
}

/// Refuses `what` where the host does not give `bytes` bytes for it now.
pub(crate) fn ask(what: &str, bytes: u64) -> Result<()> {
    let given = usize::try_from(bytes).is_ok_and(|count| Vec::<u8>::new().try_reserve_exact(count).is_ok());
    if given { Ok(()) } else { Err(out_of_memory(what, bytes)) }
}

fn out_of_memory(what: &str, bytes: u64) -> Error {
    Error::OutOfMemory { what: what.into(), bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_the_host_does_not_give_is_an_error() {
        assert!(ask("a picture", 1 << 10).is_ok() && reserved::<f32>("a picture", 1 << 8).is_ok());
        for error in [ask("a picture", 1 << 62), reserved::<u64>("a picture", 1 << 59).map(drop)] {
            let text = error.unwrap_err().to_string();
            assert_eq!(text, "out of memory: a picture needs 4294967296.0 GiB (4611686018427387904 bytes)");
        }
        assert!(reserved::<u64>("a picture", usize::MAX).is_err());
    }
}
