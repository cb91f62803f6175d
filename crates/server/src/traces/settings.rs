//! `TraceSettings`: which inferences are recorded, under Triton's names: for all models, and for single ones.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::Failure;

/// Which inferences are recorded. Clones share their values.
#[derive(Clone, Debug)]
pub(crate) struct TraceSettings {
    /// Whether traces go somewhere.
    on: bool,
    mode: &'static str,
    file: String,
    /// What the server was started with.
    first: Rule,
    now: Arc<Mutex<Now>>,
}

#[derive(Debug)]
struct Now {
    all: State,
    /// The models that have settings of their own.
    models: BTreeMap<String, (Overrides, State)>,
}

/// A rule, and what has become of it.
#[derive(Clone, Debug)]
struct State {
    rule: Rule,
    /// The inferences that were asked for since the rule was made.
    seen: u64,
}

#[derive(Clone, Debug, PartialEq)]
struct Rule {
    /// Whether inferences are recorded at all.
    recorded: bool,
    /// One of so many is.
    rate: u64,
    /// So many more are; `None` for all.
    count: Option<u64>,
    /// The traces of a file; 0 for all.
    frequency: u64,
}

/// The settings that differ from those of all models, as texts.
type Overrides = BTreeMap<String, Vec<String>>;

impl Default for Rule {
    fn default() -> Rule {
        Rule { recorded: false, rate: 1000, count: None, frequency: 0 }
    }
}

impl Default for TraceSettings {
    fn default() -> TraceSettings {
        TraceSettings::of(false, "triton", String::new(), Rule::default())
    }
}

impl TraceSettings {
    /// # Errors
    /// A text, if a setting has no such value.
    pub(super) fn new(
        on: bool,
        mode: &'static str,
        file: String,
        first: &[(String, String)],
    ) -> Result<TraceSettings, String> {
        let mut rule = Rule::default();
        for (name, value) in first {
            rule.set(name, std::slice::from_ref(value), on).map_err(|failure| failure.text)?;
        }
        Ok(TraceSettings::of(on, mode, file, rule))
    }

    fn of(on: bool, mode: &'static str, file: String, first: Rule) -> TraceSettings {
        let now = Now { all: State::new(first.clone()), models: BTreeMap::new() };
        TraceSettings { on, mode, file, first, now: Arc::new(Mutex::new(now)) }
    }

    /// Whether an inference by `model` is recorded. A client that takes part in a trace has decided, if anything is recorded at all.
    pub(super) fn records(&self, model: &str, asked: Option<bool>) -> bool {
        let mut now = self.lock();
        let Now { all, models } = &mut *now;
        models.get_mut(model).map_or(all, |(_, state)| state).records(asked)
    }

    /// The traces that are written to one file.
    pub(super) fn per_file(&self) -> usize {
        match self.lock().all.rule.frequency {
            0 => super::WAITING,
            frequency => usize::try_from(frequency).map_or(super::WAITING, |count| count.min(super::WAITING)),
        }
    }

    /// The settings of a model, or those of all if it is empty.
    pub(crate) fn shown(&self, model: &str) -> BTreeMap<String, Vec<String>> {
        let now = self.lock();
        let rule = now.models.get(model).map_or(&now.all, |(_, state)| state).rule.clone();
        [
            ("trace_file", self.file.clone()),
            ("trace_mode", self.mode.to_string()),
            ("trace_level", if rule.recorded { "TIMESTAMPS" } else { "OFF" }.to_string()),
            ("trace_rate", rule.rate.to_string()),
            ("trace_count", rule.count.map_or("-1".to_string(), |count| count.to_string())),
            ("log_frequency", rule.frequency.to_string()),
        ]
        .map(|(name, value)| (name.to_string(), vec![value]))
        .into()
    }

    /// Changes settings of a model, or of all; all of them or, if one cannot be changed so, none. An empty list stands for the setting
    /// of all models, or for that of the server's start. Returns all.
    ///
    /// # Errors
    /// [`crate::Reason::Invalid`].
    pub(crate) fn set(
        &self,
        model: &str,
        changes: &BTreeMap<String, Vec<String>>,
    ) -> Result<BTreeMap<String, Vec<String>>, Failure> {
        {
            let mut now = self.lock();
            if model.is_empty() {
                let rule = self.changed(now.all.rule.clone(), &self.first, changes)?;
                let mut models = now.models.clone();
                for (overrides, state) in models.values_mut() {
                    // What a model does not override follows.
                    *state = State::new(self.changed(rule.clone(), &rule, overrides)?);
                }
                *now = Now { all: State::new(rule), models };
            } else {
                let mut overrides = now.models.get(model).map(|(own, _)| own.clone()).unwrap_or_default();
                overrides.extend(changes.clone());
                overrides.retain(|_, value| !value.is_empty());
                // What cannot be changed is refused, though it is kept nowhere.
                self.changed(now.all.rule.clone(), &now.all.rule, changes)?;
                let rule = self.changed(now.all.rule.clone(), &now.all.rule, &overrides)?;
                match overrides.is_empty() {
                    true => drop(now.models.remove(model)),
                    false => drop(now.models.insert(model.to_string(), (overrides, State::new(rule)))),
                }
            }
        }
        Ok(self.shown(model))
    }

    fn changed(
        &self,
        mut rule: Rule,
        cleared: &Rule,
        changes: &BTreeMap<String, Vec<String>>,
    ) -> Result<Rule, Failure> {
        for (name, value) in changes {
            let fixed = match name.as_str() {
                "trace_file" => Some(&*self.file),
                "trace_mode" => Some(self.mode),
                _ => None,
            };
            match fixed {
                Some(is) if value.is_empty() || value[..] == [is] => {}
                Some(_) => {
                    let text = format!("trace setting '{name}' cannot be changed while the server runs");
                    return Err(Failure::invalid(text));
                }
                None if value.is_empty() => rule.clear(name, cleared)?,
                None => rule.set(name, value, self.on)?,
            }
        }
        Ok(rule)
    }

    fn lock(&self) -> MutexGuard<'_, Now> {
        // Each change is one assignment, so that a panic leaves no half of one.
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn new(rule: Rule) -> State {
        State { rule, seen: 0 }
    }

    fn records(&mut self, asked: Option<bool>) -> bool {
        if !self.rule.recorded || self.rule.count == Some(0) {
            return false;
        }
        let chosen = match asked {
            Some(asked) => asked,
            None => {
                self.seen += 1;
                self.seen.is_multiple_of(self.rule.rate)
            }
        };
        if let Some(count) = self.rule.count.as_mut().filter(|_| chosen) {
            *count -= 1;
        }
        chosen
    }
}

fn unknown(name: &str) -> Failure {
    Failure::invalid(format!("there is no trace setting '{name:.80}'"))
}

impl Rule {
    fn clear(&mut self, name: &str, to: &Rule) -> Result<(), Failure> {
        match name {
            "trace_level" => self.recorded = to.recorded,
            "trace_rate" => self.rate = to.rate,
            "trace_count" => self.count = to.count,
            "log_frequency" => self.frequency = to.frequency,
            _ => return Err(unknown(name)),
        }
        Ok(())
    }

    fn set(&mut self, name: &str, value: &[String], on: bool) -> Result<(), Failure> {
        let wrong = |wanted: &str| Failure::invalid(format!("trace setting '{name}' is {wanted}"));
        let one = |wanted: &str| match value {
            [value] => Ok(value.as_str()),
            _ => Err(wrong(wanted)),
        };
        let number = |wanted: &str| one(wanted)?.parse::<u64>().map_err(|_| wrong(wanted));
        match name {
            "trace_level" => {
                let wanted = "OFF or TIMESTAMPS; the values of tensors are not recorded";
                self.recorded = match value {
                    [off] if off == "OFF" => false,
                    [level] if level == "TIMESTAMPS" => true,
                    _ => return Err(wrong(wanted)),
                };
                if self.recorded && !on {
                    let text = "traces go nowhere: start the server with --trace-config opentelemetry,url=URL or triton,file=FILE";
                    return Err(Failure::invalid(text));
                }
            }
            "trace_rate" => {
                let wanted = "a whole number from 1 on";
                self.rate = Some(number(wanted)?).filter(|rate| *rate > 0).ok_or_else(|| wrong(wanted))?;
            }
            "trace_count" => {
                let wanted = "a whole number from 0 on, or -1 for no end";
                self.count = if one(wanted)? == "-1" { None } else { Some(number(wanted)?) };
            }
            "log_frequency" => self.frequency = number("a whole number from 0 on")?,
            _ => return Err(unknown(name)),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> TraceSettings {
        TraceSettings::new(true, "opentelemetry", String::new(), &[]).unwrap()
    }

    fn set(
        settings: &TraceSettings,
        model: &str,
        changes: &[(&str, &str)],
    ) -> Result<BTreeMap<String, Vec<String>>, Failure> {
        let list = |value: &str| if value.is_empty() { Vec::new() } else { vec![value.to_string()] };
        let changes = changes.iter().map(|(name, value)| (name.to_string(), list(value))).collect();
        settings.set(model, &changes)
    }

    #[test]
    fn one_of_so_many_is_recorded_until_the_count_is_reached() {
        let settings = settings();
        assert!(!settings.records("m", None) && !settings.records("m", Some(true)), "it is off");
        let changes = [("trace_level", "TIMESTAMPS"), ("trace_rate", "3"), ("trace_count", "3")];
        set(&settings, "", &changes).unwrap();
        let recorded: Vec<bool> = (0..6).map(|_| settings.records("m", None)).collect();
        assert_eq!(recorded, [false, false, true, false, false, true]);
        assert!(!settings.records("m", Some(false)), "the client does not record its trace");
        assert!(settings.records("m", Some(true)), "the client does");
        assert_eq!(settings.shown("")["trace_count"], ["0"]);
        assert!(!settings.records("m", Some(true)));
    }

    #[test]
    fn a_model_has_settings_of_its_own() {
        let settings = settings();
        set(&settings, "m", &[("trace_level", "TIMESTAMPS"), ("trace_rate", "1")]).unwrap();
        assert!(settings.records("m", None) && !settings.records("other", None));
        assert_eq!(settings.shown("")["trace_level"], ["OFF"]);
        set(&settings, "", &[("log_frequency", "7")]).unwrap();
        let own = settings.shown("m");
        assert_eq!(
            (&own["trace_rate"][..], &own["log_frequency"][..]),
            (&["1".into()][..], &["7".into()][..])
        );
        set(&settings, "m", &[("trace_level", ""), ("trace_rate", "")]).unwrap();
        assert_eq!(settings.shown("m"), settings.shown(""));
        assert!(!settings.records("m", None));
    }

    #[test]
    fn a_change_is_whole_or_none() {
        let settings = settings();
        let text = |name: &str, value: &str| {
            set(&settings, "", &[("log_frequency", "9"), (name, value)]).unwrap_err().text
        };
        assert_eq!(text("trace_rate", "0"), "trace setting 'trace_rate' is a whole number from 1 on");
        assert!(text("trace_count", "-2").contains("or -1 for no end"));
        assert!(text("trace_level", "TENSORS").contains("values of tensors are not recorded"));
        assert!(text("trace_file", "/etc/x").contains("cannot be changed while the server runs"));
        assert_eq!(text("trace_colour", "red"), "there is no trace setting 'trace_colour'");
        assert_eq!(text("trace_colour", ""), "there is no trace setting 'trace_colour'");
        assert_eq!(settings.shown("")["log_frequency"], ["0"]);
        let nowhere = set(&TraceSettings::default(), "", &[("trace_level", "TIMESTAMPS")]).unwrap_err();
        assert!(nowhere.text.contains("--trace-config"));
        assert!(
            set(&TraceSettings::default(), "m", &[("trace_level", "OFF"), ("trace_mode", "triton")]).is_ok()
        );
    }
}
