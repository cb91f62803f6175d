//! `Settings`: what clients may read and change of the server's log and its traces, under Triton's names.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::Level;

use crate::traces::TraceSettings;
use crate::{Failure, Parameter, Parameters};

/// What clients may read and change of the server's log and traces. Clones share their values: who writes the log asks one of them
/// ([`Settings::allows`]) for each message.
///
/// ```
/// use sardonyx_server::Parameter;
/// use sardonyx_server::settings::Settings;
/// let settings = Settings::default();
/// settings.set_log([("log_verbose_level".to_string(), Parameter::Int(1))].into())?;
/// assert_eq!(settings.log()["log_verbose_level"], Parameter::Int(1));
/// assert!(settings.allows(&tracing::Level::DEBUG));
/// # Ok::<(), sardonyx_server::Failure>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Settings {
    log: Arc<Mutex<Log>>,
    traces: TraceSettings,
}

#[derive(Clone, Debug)]
struct Log {
    errors: bool,
    warnings: bool,
    info: bool,
    /// 1 for messages that find faults of the server, 2 for all.
    verbose: u32,
}

impl Default for Log {
    fn default() -> Log {
        Log { errors: true, warnings: true, info: true, verbose: 0 }
    }
}

impl Settings {
    /// Whether messages of this level are logged.
    pub fn allows(&self, level: &Level) -> bool {
        let log = self.lock();
        match *level {
            Level::ERROR => log.errors,
            Level::WARN => log.warnings,
            Level::INFO => log.info,
            Level::DEBUG => log.verbose >= 1,
            Level::TRACE => log.verbose >= 2,
        }
    }

    /// The settings of the log.
    pub fn log(&self) -> Parameters {
        self.lock().shown()
    }

    /// Changes settings of the log, all of them or, if one cannot be changed so, none. Returns all.
    ///
    /// # Errors
    /// [`crate::Reason::Invalid`] if there is no such setting, it cannot be changed while the server runs, or the value is none for it.
    pub fn set_log(&self, changes: Parameters) -> Result<Parameters, Failure> {
        let mut log = self.lock();
        let mut changed = log.clone();
        for (name, value) in changes {
            changed.set(&name, value)?;
        }
        *log = changed;
        Ok(log.shown())
    }

    /// These settings, with other ones of traces.
    pub(crate) fn with_traces(self, traces: TraceSettings) -> Settings {
        Settings { traces, ..self }
    }

    /// The settings of traces.
    pub(crate) fn traces(&self) -> &TraceSettings {
        &self.traces
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        // Each change is one assignment, so that a panic leaves no half of one.
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
    fn shown(&self) -> Parameters {
        [
            ("log_file", Parameter::Text(String::new())),
            ("log_info", Parameter::Bool(self.info)),
            ("log_warnings", Parameter::Bool(self.warnings)),
            ("log_errors", Parameter::Bool(self.errors)),
            ("log_verbose_level", Parameter::Int(self.verbose.into())),
            ("log_format", Parameter::Text("default".into())),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    fn set(&mut self, name: &str, value: Parameter) -> Result<(), Failure> {
        let wrong = |wanted: &str| Failure::invalid(format!("log setting '{name}' is {wanted}"));
        match (name, value) {
            ("log_info", Parameter::Bool(value)) => self.info = value,
            ("log_warnings", Parameter::Bool(value)) => self.warnings = value,
            ("log_errors", Parameter::Bool(value)) => self.errors = value,
            ("log_info" | "log_warnings" | "log_errors", _) => return Err(wrong("true or false")),
            ("log_verbose_level", Parameter::Int(level)) => {
                self.verbose = u32::try_from(level).map_err(|_| wrong("a whole number from 0 on"))?;
            }
            ("log_verbose_level", _) => return Err(wrong("a whole number from 0 on")),
            ("log_file", Parameter::Text(file)) if file.is_empty() => {}
            ("log_format", Parameter::Text(format)) if format == "default" => {}
            ("log_file" | "log_format", _) => {
                let text = format!("log setting '{name}' cannot be changed while the server runs");
                return Err(Failure::invalid(text));
            }
            _ => return Err(Failure::invalid(format!("there is no log setting '{name:.80}'"))),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, value: Parameter) -> Parameters {
        [(name.to_owned(), value)].into()
    }

    #[test]
    fn levels() {
        let settings = Settings::default();
        let allowed = || {
            [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE]
                .map(|level| settings.allows(&level))
        };
        assert_eq!(allowed(), [true, true, true, false, false]);
        settings.set_log(one("log_info", Parameter::Bool(false))).unwrap();
        settings.set_log(one("log_verbose_level", Parameter::Int(2))).unwrap();
        assert_eq!(allowed(), [true, true, false, true, true]);
    }

    #[test]
    fn a_change_is_whole_or_none() {
        let settings = Settings::default();
        let changes =
            [("log_errors".to_owned(), Parameter::Bool(false)), ("log_volume".to_owned(), Parameter::Int(1))];
        assert_eq!(
            settings.set_log(changes.into()).unwrap_err().text,
            "there is no log setting 'log_volume'"
        );
        assert_eq!(settings.log()["log_errors"], Parameter::Bool(true));
        let text = |name: &str, value: Parameter| settings.set_log(one(name, value)).unwrap_err().text;
        assert_eq!(text("log_info", Parameter::Int(1)), "log setting 'log_info' is true or false");
        assert_eq!(
            text("log_verbose_level", Parameter::Int(-1)),
            "log setting 'log_verbose_level' is a whole number from 0 on"
        );
        assert!(
            text("log_file", Parameter::Text("/etc/x".into()))
                .contains("cannot be changed while the server runs")
        );
    }
}
