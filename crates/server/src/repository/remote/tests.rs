//! Repositories of small models in a folder that is reached as a store, and served on the CPU reference.

use std::fs;
use std::sync::Arc;

use sardonyx::Tensor;
use sardonyx_testing::onnx::build::{FLOAT, bytes, graph, model, node, value, weights};
use tempfile::TempDir;

use crate::repository::{Overrides, Repository, State, poll};
use crate::serving::Devices;
use crate::{ControlMode, Failure, Options, Reason, Request};

/// A store, the folder of its mirrors, and how it is served.
struct Store {
    objects: TempDir,
    cache: TempDir,
    options: Options,
}

impl Store {
    fn new(control: ControlMode) -> Store {
        let (objects, cache) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let url = format!("file://{}", objects.path().display());
        let mut options = Options::new(vec![url.into()]);
        options.control = control;
        options.repository_cache = Some(cache.path().into());
        Store { objects, cache, options }
    }

    fn open(&self) -> Result<Arc<Repository>, Failure> {
        Repository::open(&self.options, Devices::open(Vec::new(), 2).unwrap())
    }

    fn put(&self, path: &str, contents: impl AsRef<[u8]>) {
        let path = self.objects.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }

    fn remove(&self, path: &str) {
        fs::remove_dir_all(self.objects.path().join(path)).unwrap();
    }

    /// The files of the mirror below its `models`, and those of the unfinished parts.
    fn kept(&self) -> Vec<String> {
        let mirror = fs::read_dir(self.cache.path()).unwrap().next().unwrap().unwrap().path();
        let (mut files, mut folders) = (Vec::new(), vec![mirror.clone()]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => files.push(path.strip_prefix(&mirror).unwrap().to_str().unwrap().to_string()),
                }
            }
        }
        files.retain(|file| file != "lock" && !file.ends_with(".objects.json"));
        files.sort();
        files
    }
}

/// `y = x + of`, for any number of rows of two elements.
fn adds(of: f32) -> Vec<u8> {
    let mut graph = graph(&[], vec![node("Add", &["x", "w"], &["y"])], &[]);
    graph.input = vec![value("x", FLOAT, &["N", "2"])];
    graph.output = vec![value("y", FLOAT, &["N", "2"])];
    graph.initializer = vec![weights("w", &[1], &[of])];
    bytes(&model(17, graph)).to_vec()
}

/// What the model makes of zeros.
async fn answer(repository: &Repository, name: &str) -> Result<f32, Failure> {
    let inputs = vec![("x".into(), Tensor::from_slice(&[1, 2], &[0.0f32, 0.0]).unwrap())];
    let request = Request { model: name.into(), inputs, ..Request::default() };
    let response = repository.find(name, "")?.infer(request).await;
    Ok(response.unwrap_or_else(|_| panic!("no answer")).outputs[0].1.to_vec::<f32>().unwrap()[0])
}

#[tokio::test]
async fn polls_follow_the_store() {
    let store = Store::new(ControlMode::Poll);
    store.put("add/1/model.onnx", adds(1.0));
    store.put("other/1/model.onnx", adds(5.0));
    store.put("readme.md", "no model");
    let repository = store.open().unwrap();
    assert!(!repository.is_ready());
    repository.load_first().await.unwrap();
    assert!(repository.is_ready());
    assert_eq!((answer(&repository, "add").await, answer(&repository, "other").await), (Ok(1.0), Ok(5.0)));
    assert_eq!(store.kept(), ["models/add/1/model.onnx", "models/other/1/model.onnx"]);

    // A new version; a model that is gone; one that comes.
    store.put("add/2/model.onnx", adds(2.0));
    store.remove("other");
    store.put("late/3/model.onnx", adds(3.0));
    poll::look(&repository).await;
    assert_eq!((answer(&repository, "add").await, answer(&repository, "late").await), (Ok(2.0), Ok(3.0)));
    assert_eq!(repository.find("other", "").unwrap_err().reason, Reason::Unavailable);
    assert_eq!(
        store.kept(),
        ["models/add/1/model.onnx", "models/add/2/model.onnx", "models/late/3/model.onnx"]
    );

    // What has not changed is not loaded anew.
    let before = repository.find("add", "").unwrap();
    poll::look(&repository).await;
    assert!(Arc::ptr_eq(&before, &repository.find("add", "").unwrap()));

    // The same file with other contents, and files that are no models.
    store.put("add/2/model.onnx", adds(-2.0));
    store.put("late/3/model.onnx", "no model");
    poll::look(&repository).await;
    assert_eq!((answer(&repository, "add").await, answer(&repository, "late").await), (Ok(-2.0), Ok(3.0)));

    // A version that is removed.
    store.remove("add/2");
    poll::look(&repository).await;
    assert_eq!(answer(&repository, "add").await, Ok(1.0));

    // A store that does not answer takes nothing away.
    let away = store.objects.path().with_extension("away");
    fs::rename(store.objects.path(), &away).unwrap();
    poll::look(&repository).await;
    assert_eq!(answer(&repository, "add").await, Ok(1.0));
    assert!(repository.find("late", "").is_ok() && repository.is_ready());
    fs::rename(&away, store.objects.path()).unwrap();
}

#[tokio::test]
async fn what_a_server_learned_stays_with_its_version() {
    let store = Store::new(ControlMode::Poll);
    store.put("add/1/model.onnx", adds(1.0));
    let repository = store.open().unwrap();
    repository.load_first().await.unwrap();
    let version = repository.layout.find("add").unwrap().baseline(1);
    fs::write(&version, "{}").unwrap();
    store.put("add/2/model.onnx", adds(2.0));
    poll::look(&repository).await;
    assert_eq!(answer(&repository, "add").await, Ok(2.0));
    assert_eq!(fs::read_to_string(version).unwrap(), "{}");
}

#[tokio::test]
async fn a_client_loads_what_the_store_has_then() {
    let mut store = Store::new(ControlMode::Explicit);
    store.options.load = vec!["add".into()];
    store.put("add/1/model.onnx", adds(1.0));
    store.put("other/1/model.onnx", adds(5.0));
    let repository = store.open().unwrap();
    repository.load_first().await.unwrap();
    assert_eq!(store.kept(), ["models/add/1/model.onnx"], "what is not loaded is not mirrored");
    let names: Vec<_> = repository.index(false).into_iter().map(|entry| (entry.name, entry.state)).collect();
    assert_eq!(names, [("add".to_string(), State::Ready), ("other".to_string(), State::Unavailable)]);
    repository.load("other", Overrides::default()).await.unwrap();
    assert_eq!(answer(&repository, "other").await, Ok(5.0));

    store.put("add/2/model.onnx", adds(2.0));
    assert_eq!(answer(&repository, "add").await, Ok(1.0), "nobody has said so");
    repository.load("add", Overrides::default()).await.unwrap();
    assert_eq!(answer(&repository, "add").await, Ok(2.0));

    store.remove("add");
    let gone = repository.load("add", Overrides::default()).await.unwrap_err();
    assert_eq!(gone.reason, Reason::NotFound);
    assert_eq!(answer(&repository, "add").await, Ok(2.0), "what serves does until it is unloaded");
    repository.unload("add").await.unwrap();
    assert_eq!(store.kept(), ["models/other/1/model.onnx"]);
    let wrong = repository.load("../other", Overrides::default()).await.unwrap_err();
    assert_eq!(wrong.reason, Reason::Invalid);
}

#[tokio::test]
async fn limits_of_bytes_are_kept() {
    let mut store = Store::new(ControlMode::Explicit);
    let size = adds(1.0).len() as u64;
    store.options.repository_cache_bytes = 2 * size;
    for name in ["a", "b", "c"] {
        store.put(&format!("{name}/1/model.onnx"), adds(1.0));
    }
    let repository = store.open().unwrap();
    repository.load_first().await.unwrap();
    repository.load("a", Overrides::default()).await.unwrap();
    repository.load("b", Overrides::default()).await.unwrap();
    let failure = repository.load("c", Overrides::default()).await.unwrap_err();
    assert_eq!(failure.reason, Reason::Unavailable);
    let named = format!("model 'c': file://{}/c has {size} bytes", store.objects.path().display());
    assert!(failure.text.starts_with(&named), "{failure}");
    assert!(failure.text.contains("raise --repository-cache-bytes"), "{failure}");
    assert_eq!(store.kept().len(), 2);
    store.remove("a");
    assert!(repository.load("a", Overrides::default()).await.is_err());
    repository.load("c", Overrides::default()).await.unwrap();
}

#[tokio::test]
async fn a_mirror_is_one_servers_and_outlives_it() {
    let store = Store::new(ControlMode::None);
    store.put("add/1/model.onnx", adds(1.0));
    store.put("two/1/model.onnx", adds(2.0));
    let repository = store.open().unwrap();
    repository.load_first().await.unwrap();
    let failure = store.open().unwrap_err();
    assert!(
        failure.text.contains("another server") && failure.text.contains("--repository-cache"),
        "{failure}"
    );
    let add = repository.layout.find("add").unwrap().snapshot();
    let two = repository.layout.find("two").unwrap().baseline(1).with_file_name("model.onnx");
    drop(repository);

    // A file that has been cut meanwhile is fetched anew; what is whole is not; what was unfinished is gone.
    fs::write(&two, "cut").unwrap();
    let mirror = fs::read_dir(store.cache.path()).unwrap().next().unwrap().unwrap().path();
    fs::create_dir_all(mirror.join("next/add/1")).unwrap();
    fs::write(mirror.join("next/add/1/model.onnx"), "half").unwrap();
    let repository = store.open().unwrap();
    repository.load_first().await.unwrap();
    assert_eq!(repository.layout.find("add").unwrap().snapshot(), add);
    assert_eq!((answer(&repository, "add").await, answer(&repository, "two").await), (Ok(1.0), Ok(2.0)));
    assert_eq!(store.kept(), ["models/add/1/model.onnx", "models/two/1/model.onnx"]);
}

#[tokio::test]
async fn a_store_that_is_not_there_is_an_error() {
    let mut store = Store::new(ControlMode::None);
    store.options.repositories = vec!["file:///nowhere/at/all".into()];
    let failure = store.open().unwrap_err();
    assert!(failure.text.starts_with("file:///nowhere/at/all: "), "{failure}");
    store.options.repositories = vec!["hdfs://host/models".into()];
    assert!(store.open().unwrap_err().text.contains("s3://BUCKET/PREFIX"));

    // One that goes away before the start.
    let store = Store::new(ControlMode::Poll);
    store.put("add/1/model.onnx", adds(1.0));
    let repository = store.open().unwrap();
    let away = store.objects.path().with_extension("away");
    fs::rename(store.objects.path(), &away).unwrap();
    let failure = repository.load_first().await.unwrap_err();
    assert!(failure.text.contains(&store.objects.path().display().to_string()), "{failure}");
    assert!(!repository.is_ready());
    fs::rename(&away, store.objects.path()).unwrap();
    poll::look(&repository).await;
    assert!(repository.is_ready());
    assert_eq!(answer(&repository, "add").await, Ok(1.0));
}
