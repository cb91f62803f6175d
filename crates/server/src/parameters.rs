//! The values of parameters of a type.

use crate::{Failure, Parameter, Parameters};

/// Takes a parameter that is true or false from `parameters`.
///
/// # Errors
/// [`crate::Reason::Invalid`] if it is something else.
pub(crate) fn truth(parameters: &mut Parameters, name: &str) -> Result<Option<bool>, Failure> {
    match parameters.remove(name) {
        None => Ok(None),
        Some(Parameter::Bool(value)) => Ok(Some(value)),
        Some(_) => Err(Failure::invalid(format!("parameter '{name}' is true or false"))),
    }
}

/// Takes a parameter that is a whole number, and not negative, from `parameters`.
///
/// # Errors
/// [`crate::Reason::Invalid`] if it is something else.
pub(crate) fn number(parameters: &mut Parameters, name: &str) -> Result<Option<u64>, Failure> {
    let number = match parameters.remove(name) {
        None => return Ok(None),
        Some(Parameter::Int(number)) => u64::try_from(number).ok(),
        Some(_) => None,
    };
    number
        .map(Some)
        .ok_or_else(|| Failure::invalid(format!("parameter '{name}' is a whole number from 0 on")))
}
