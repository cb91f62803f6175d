//! The events that a program gets through `tracing`.
#![allow(clippy::unwrap_used)] // A test that cannot go on has failed.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use sardonyx::{Model, Session, SessionOptions, Tensor};
use sardonyx_testing::devices;
use sardonyx_testing::onnx::build::{bytes, graph, model, node, weights};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Collects the events of Sardonyx.
#[derive(Clone, Default)]
struct Listener(Arc<Mutex<Vec<(Level, Fields)>>>);

#[derive(Clone, Debug, Default)]
struct Fields(Vec<(String, String)>);

impl Fields {
    fn get(&self, name: &str) -> &str {
        &self.0.iter().find(|(own, _)| own == name).unwrap_or_else(|| panic!("{name}: {self:?}")).1
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.push((field.name().into(), format!("{value:?}")));
    }
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "sardonyx"
    }

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        self.0.lock().unwrap().push((*event.metadata().level(), fields));
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[test]
fn what_takes_time_or_fails_is_told() {
    let mut main = graph(&["x"], vec![node("Mul", &["x", "w"], &["y"])], &["y"]);
    main.initializer = vec![weights("w", &[8], &[2.0; 8])];
    let model = Model::from_bytes(bytes(&model(21, main))).unwrap();
    let x = Tensor::from_slice(&[8], &[1.0f32; 8]).unwrap();
    let listener = Listener::default();
    // Threads compile kernels, and threads have no subscriber but the global one.
    tracing::subscriber::set_global_default(listener.clone()).unwrap();
    for device in devices::each() {
        listener.0.lock().unwrap().clear();
        let session = Session::new(&device, &model, SessionOptions::default()).unwrap();
        session.run(&[("x", &x)]).unwrap();
        let told = |message: &str| {
            let events = listener.0.lock().unwrap();
            let of = |(_, fields): &&(Level, Fields)| fields.get("message") == message;
            events.iter().filter(of).cloned().collect::<Vec<_>>()
        };
        let plan = told("plan made");
        assert_eq!((plan.len(), plan[0].0, plan[0].1.get("dispatches")), (1, Level::DEBUG, "1"));
        assert!(plan[0].1.get("milliseconds").parse::<f64>().unwrap() >= 0.0);
        let compiled = told("pipelines compiled");
        let count: usize = compiled.iter().map(|event| event.1.get("count").parse::<usize>().unwrap()).sum();
        assert_eq!(count as u64, device.counters().pipelines);
        assert_eq!(told("pipeline compiled").len(), count);
        assert!(told("weights uploaded")[0].1.get("bytes").parse::<u64>().unwrap() >= 32);
        // A run that finds its plan reports nothing.
        listener.0.lock().unwrap().clear();
        session.run(&[("x", &x)]).unwrap();
        assert!(listener.0.lock().unwrap().is_empty());
        device.wgpu().unwrap().0.destroy();
        session.run(&[("x", &x)]).unwrap_err();
        let lost = told("device lost");
        assert_eq!((lost.len(), lost[0].0), (1, Level::ERROR), "{lost:?}");
    }
}
