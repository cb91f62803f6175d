//! The settings of a model that a sweep changes on the server: the model is loaded anew with each of them, and as it was at the end.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::client::{Client, Trouble};
use super::{Args, Failure};

/// How a model is served at a point; `None` as its configuration says.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Setting {
    /// The runs in flight.
    pub(super) instances: Option<u64>,
    /// How long a request waits for others to be run with, in microseconds.
    pub(super) delay: Option<u64>,
}

/// A model whose settings are changed.
pub(super) struct Tuning {
    client: Arc<Client>,
    /// The model's own configuration.
    own: Value,
    timeout: Duration,
}

/// A load takes longer than a request: it compiles kernels.
const PATIENCE: Duration = Duration::from_secs(300);

/// The settings that the command line names, each with each.
pub(super) fn settings(args: &Args) -> Vec<Setting> {
    let each = |numbers: &[u64]| match numbers {
        [] => vec![None],
        numbers => numbers.iter().copied().map(Some).collect(),
    };
    let of_delay =
        |delay| each(&args.instances).into_iter().map(move |instances| Setting { instances, delay });
    each(&args.delay).into_iter().flat_map(of_delay).collect()
}

impl Tuning {
    pub(super) async fn new(client: Arc<Client>, timeout: Duration) -> Result<Tuning, Failure> {
        let asked = tokio::time::timeout(timeout, client.config()).await;
        let own = told(&client, "its configuration cannot be read", asked)?;
        Ok(Tuning { client, own, timeout: timeout.max(PATIENCE) })
    }

    /// Lets the server load the model with a setting.
    pub(super) async fn set(&self, setting: Setting) -> Result<(), Failure> {
        let config = changed(self.own.clone(), setting).map_err(|text| self.client.refused(&text))?;
        let asked = tokio::time::timeout(self.timeout, self.client.load(Some(config.to_string()))).await;
        told(&self.client, "the server does not load the model with other settings", asked)
    }

    /// Lets the server load the model as it was.
    pub(super) async fn end(self) -> Result<(), Failure> {
        let asked = tokio::time::timeout(self.timeout, self.client.load(None)).await;
        told(&self.client, "the server does not load the model as it was", asked)
    }
}

fn told<T>(
    client: &Client,
    what: &str,
    asked: Result<Result<T, Trouble>, tokio::time::error::Elapsed>,
) -> Result<T, Failure> {
    match asked {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(trouble)) => Err(client.refused(&format!("{what}: {trouble}"))),
        Err(_) => Err(client.refused(&format!("{what}: there was no answer in time"))),
    }
}

/// A configuration with other settings.
fn changed(mut config: Value, setting: Setting) -> Result<Value, String> {
    if let Some(count) = setting.instances {
        match config["instance_group"].as_array_mut().and_then(|groups| groups.first_mut()) {
            Some(group) => group["count"] = count.into(),
            None => config["instance_group"] = json!([{ "count": count }]),
        }
    }
    if let Some(delay) = setting.delay {
        if config["max_batch_size"].as_u64().unwrap_or(0) == 0 {
            return Err("--delay: the model takes one request at a time; its max_batch_size is 0".into());
        }
        if !config["dynamic_batching"].is_object() {
            config["dynamic_batching"] = json!({});
        }
        config["dynamic_batching"]["max_queue_delay_microseconds"] = delay.into();
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_settings_change() {
        let own = json!({ "name": "m", "max_batch_size": 8, "instance_group": [{ "kind": "KIND_CPU", "count": 1 }] });
        let both = changed(own.clone(), Setting { instances: Some(3), delay: Some(50) });
        let expected = json!({
            "name": "m", "max_batch_size": 8, "instance_group": [{ "kind": "KIND_CPU", "count": 3 }],
            "dynamic_batching": { "max_queue_delay_microseconds": 50 },
        });
        assert_eq!(both, Ok(expected));
        assert_eq!(changed(own.clone(), Setting::default()), Ok(own));
        let single = changed(json!({}), Setting { instances: Some(2), delay: None });
        assert_eq!(single, Ok(json!({ "instance_group": [{ "count": 2 }] })));
        assert!(changed(json!({}), Setting { instances: None, delay: Some(1) }).is_err());
    }
}
