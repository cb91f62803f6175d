//! Repositories of small models on the CPU reference.

use std::fs;

use sardonyx::Tensor;
use sardonyx_testing::onnx::build::{FLOAT, bytes, external, graph, model, node, value, weights};
use tempfile::TempDir;

use super::*;
use crate::config::Files;
use crate::serving::Unanswered;
use crate::{Flags, Request};

/// `y = x + of`, for any number of rows of two elements.
fn adds(of: f32) -> Vec<u8> {
    let mut graph = graph(&[], vec![node("Add", &["x", "w"], &["y"])], &[]);
    graph.input = vec![value("x", FLOAT, &["N", "2"])];
    graph.output = vec![value("y", FLOAT, &["N", "2"])];
    graph.initializer = vec![weights("w", &[1], &[of])];
    bytes(&model(17, graph)).to_vec()
}

fn put(folder: &TempDir, path: &str, contents: impl AsRef<[u8]>) {
    let path = folder.path().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, contents).unwrap();
}

fn repository(folders: &[&TempDir], control: ControlMode, load: &[&str]) -> Arc<Repository> {
    let mut options =
        Options::read(&Flags::default().with_repository(Some(folders[0].path().into())), None).unwrap();
    options.repositories = folders.iter().map(|folder| folder.path().into()).collect();
    (options.control, options.load) = (control, load.iter().map(|name| name.to_string()).collect());
    Repository::open(&options, Devices::open(Vec::new(), 2).unwrap()).unwrap()
}

/// What the model makes of a row of zeros.
async fn answer(repository: &Repository, name: &str, version: &str) -> Result<f32, Failure> {
    let mut request = Request {
        model: name.into(),
        inputs: vec![("x".into(), Tensor::from_slice(&[1, 2], &[0.0f32, 0.0]).unwrap())],
        ..Request::default()
    };
    loop {
        match repository.find(name, version)?.infer(request).await {
            Ok(response) => return Ok(response.outputs[0].1.to_vec::<f32>().unwrap()[0]),
            Err(Unanswered::Failed(failure)) => return Err(failure),
            Err(Unanswered::Closed(unanswered)) => request = *unanswered,
        }
        tokio::task::yield_now().await;
    }
}

fn index(repository: &Repository) -> Vec<(String, String, State, String)> {
    let of = |entry: IndexEntry| (entry.name, entry.version, entry.state, entry.reason);
    repository.index(false).into_iter().map(of).collect()
}

fn reason_of(found: Result<impl Sized, Failure>) -> Reason {
    found.map(|_| ()).unwrap_err().reason
}

#[tokio::test]
async fn all_models_are_loaded_at_the_start() {
    let folder = TempDir::new().unwrap();
    put(&folder, "add/1/model.onnx", adds(1.0));
    put(&folder, "add/2/model.onnx", adds(2.0));
    put(&folder, "add/10/model.onnx", adds(10.0));
    put(&folder, "add/notes/readme", "");
    put(
        &folder,
        "add/config.pbtxt",
        "version_policy { latest { num_versions: 2 } } parameters { key: 'version_labels' value { string_value: 'old=2' } }",
    );
    put(&folder, ".git/config", "");
    let repository = repository(&[&folder], ControlMode::None, &[]);
    assert!(!repository.is_ready());
    repository.load_first().await.unwrap();
    assert!(repository.is_ready());
    assert_eq!(repository.versions("add"), [2, 10]);
    for (version, sum) in [("", 10.0), ("2", 2.0), ("10", 10.0), ("old", 2.0)] {
        assert_eq!(answer(&repository, "add", version).await, Ok(sum), "{version}");
    }
    for (name, version) in [("add", "1"), ("add", "new"), ("add", "-1"), ("sub", ""), ("..", "")] {
        assert_eq!(reason_of(repository.find(name, version)), Reason::NotFound, "{name} {version}");
    }
    let ready = |version: &str| ("add".to_string(), version.to_string(), State::Ready, String::new());
    assert_eq!(index(&repository), [ready("2"), ready("10")]);
    assert_eq!(reason_of(repository.load("add", Overrides::default()).await), Reason::Forbidden);
    assert_eq!(reason_of(repository.unload("add").await), Reason::Forbidden);
}

#[tokio::test]
async fn one_broken_model_does_not_take_the_others() {
    let folder = TempDir::new().unwrap();
    put(&folder, "good/1/model.onnx", adds(1.0));
    put(&folder, "broken/1/model.onnx", "this is no model");
    put(&folder, "empty/readme", "");
    put(&folder, "misnamed/1/resnet.onnx", adds(1.0));
    let repository = repository(&[&folder], ControlMode::None, &[]);
    let text = repository.load_first().await.unwrap_err().text;
    assert!(text.contains("model 'broken': version 1: 1/model.onnx"), "{text}");
    assert!(text.contains("model 'empty': there is no version"), "{text}");
    assert!(text.contains(r#"set default_model_filename: "resnet.onnx""#), "{text}");
    assert!(!text.contains(folder.path().to_str().unwrap()), "{text}");
    assert_eq!(answer(&repository, "good", "").await, Ok(1.0));
    assert_eq!(reason_of(repository.find("broken", "")), Reason::Unavailable);
    assert!(!repository.is_ready());
    assert_eq!(repository.index(true).len(), 1);
    let broken = index(&repository).remove(0);
    assert_eq!((broken.0.as_str(), broken.1.as_str(), broken.2), ("broken", "1", State::Unavailable));
    assert!(broken.3.contains("1/model.onnx"));
}

#[tokio::test]
async fn clients_load_and_unload() {
    let folder = TempDir::new().unwrap();
    put(&folder, "add/1/model.onnx", adds(1.0));
    put(&folder, "other/1/model.onnx", adds(1.0));
    let repository = repository(&[&folder], ControlMode::Explicit, &["add"]);
    repository.load_first().await.unwrap();
    let other = ("other".to_string(), String::new(), State::Unavailable, "not loaded".to_string());
    assert_eq!(index(&repository)[1], other);
    assert_eq!(reason_of(repository.find("other", "")), Reason::Unavailable);

    // A load that fails changes nothing, and says why.
    put(&folder, "add/2/model.onnx", "no model");
    let failure = repository.load("add", Overrides::default()).await.unwrap_err();
    assert!(failure.text.starts_with("model 'add': version 2: 2/model.onnx"), "{failure}");
    assert_eq!(answer(&repository, "add", "").await, Ok(1.0));
    assert!(repository.is_ready());
    let entries = index(&repository);
    assert_eq!((entries[0].2, entries[1].2, entries[1].1.as_str()), (State::Ready, State::Unavailable, "2"));
    assert_eq!(entries[0].3, failure.text);

    put(&folder, "add/2/model.onnx", adds(2.0));
    let config = |config: &str| Overrides { config: Some(config.into()) };
    repository.load("add", config(r#"{"max_batch_size": 7, "version_policy": {"all": {}}}"#)).await.unwrap();
    assert_eq!(repository.versions("add"), [1, 2]);
    assert_eq!(repository.find("add", "1").unwrap().config().max_batch, 7);
    assert!(repository.load("add", config("{")).await.is_err());
    repository.load("add", Overrides::default()).await.unwrap();
    assert_eq!(repository.versions("add"), [2]);

    repository.unload("add").await.unwrap();
    assert_eq!(reason_of(answer(&repository, "add", "").await), Reason::Unavailable);
    assert!(repository.served().is_empty() && repository.is_ready());
    assert_eq!(index(&repository)[0], ("add".into(), "2".into(), State::Unavailable, "unloaded".into()));
    repository.load("add", Overrides::default()).await.unwrap();
    assert_eq!(answer(&repository, "add", "2").await, Ok(2.0));
    for name in ["none", "../add", ""] {
        assert!(repository.load(name, Overrides::default()).await.is_err(), "{name}");
        assert!(repository.unload(name).await.is_err(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_under_load_lose_no_request() {
    let folder = TempDir::new().unwrap();
    put(&folder, "add/1/model.onnx", adds(1.0));
    let repository = repository(&[&folder], ControlMode::Explicit, &["*"]);
    repository.load_first().await.unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (repository, done) = (repository.clone(), done.clone());
            tokio::spawn(async move {
                let mut answers = 0;
                while !done.load(Ordering::Relaxed) {
                    assert_eq!(answer(&repository, "add", "").await, Ok(1.0));
                    answers += 1;
                }
                answers
            })
        })
        .collect();
    let mut loads = JoinSet::new();
    for _ in 0..20 {
        let repository = repository.clone();
        loads.spawn(async move { repository.load("add", Overrides::default()).await });
    }
    while let Some(load) = loads.join_next().await {
        load.unwrap().unwrap();
    }
    done.store(true, Ordering::Relaxed);
    for client in clients {
        assert!(client.await.unwrap() > 0);
    }
    assert_eq!(repository.served().len(), 1);
}

#[tokio::test]
async fn changes_are_seen() {
    let folder = TempDir::new().unwrap();
    put(&folder, "add/1/model.onnx", adds(1.0));
    let repository = repository(&[&folder], ControlMode::Poll, &[]);
    repository.load_first().await.unwrap();
    let before = repository.find("add", "").unwrap();
    poll::look(&repository).await;
    assert!(Arc::ptr_eq(&before, &repository.find("add", "").unwrap()));
    drop(before);

    put(&folder, "add/2/model.onnx", adds(2.0));
    put(&folder, "new/1/model.onnx", adds(7.0));
    poll::look(&repository).await;
    assert_eq!(answer(&repository, "add", "").await, Ok(2.0));
    assert_eq!(answer(&repository, "new", "").await, Ok(7.0));

    put(&folder, "add/2/model.onnx", "no model");
    poll::look(&repository).await;
    assert_eq!(answer(&repository, "add", "").await, Ok(2.0));
    assert!(index(&repository)[0].3.contains("2/model.onnx"));
    fs::remove_dir_all(folder.path().join("new")).unwrap();
    poll::look(&repository).await;
    assert!(answer(&repository, "new", "").await.is_err());
}

#[test]
fn a_model_in_two_repositories_is_none() {
    let (one, two) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    put(&one, "add/1/model.onnx", "");
    put(&two, "add/1/model.onnx", "");
    put(&two, "sub/1/model.onnx", "");
    let layout = Layout::open(&[one.path().into(), two.path().into()]).unwrap();
    assert_eq!(layout.names().into_iter().collect::<Vec<_>>(), ["add", "sub"]);
    assert!(layout.find("add").unwrap_err().text.contains("in two repositories"));
    assert!(layout.find("sub").is_ok());
    assert!(Layout::open(&[one.path().into(), one.path().into()]).is_err());
    assert!(Layout::open(&[one.path().join("none")]).is_err());
    assert!(Layout::open(&[one.path().join("add/1/model.onnx")]).is_err());
}

#[test]
fn files_are_compared_with_their_digests() {
    let folder = TempDir::new().unwrap();
    put(&folder, "add/1/model.onnx", adds(1.0));
    // sha256 of "abc", from the examples of FIPS 180-2.
    put(&folder, "add/1/weights.bin", "abc");
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let found = Layout::open(&[folder.path().into()]).unwrap().find("add").unwrap();
    let model = found.model(1, "model.onnx").unwrap();
    let check = |pinned: &str, digest: &str| {
        let given = config::from_pbtxt(&format!(
            "parameters {{ key: '{pinned}' value {{ string_value: '{digest}' }} }}"
        ));
        let config = Config::complete(given.unwrap(), "add", Some(&model), &found).unwrap();
        found.check_digests(&config, 1).map_err(|failure| failure.text)
    };
    assert_eq!(check("sha256.1/weights.bin", &abc.to_uppercase()), Ok(()));
    assert!(check("sha256.1", abc).unwrap_err().contains("'1/model.onnx' has the sha256"));
    assert!(check("sha256.1/none", abc).unwrap_err().contains("no file"));
    assert_eq!(check("sha256.2", abc), Ok(()));
}

#[cfg(unix)]
#[test]
fn no_path_leaves_the_repository() {
    use std::os::unix::fs::symlink;
    let (folder, outside) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    put(&outside, "secret", "secret");
    put(&outside, "away/1/model.onnx", adds(1.0));
    put(&folder, "m/inside", "inside");
    symlink(outside.path().join("secret"), folder.path().join("m/link")).unwrap();
    symlink(folder.path().join("m/inside"), folder.path().join("m/near")).unwrap();
    symlink(outside.path().join("away"), folder.path().join("away")).unwrap();
    symlink(outside.path().join("away/1"), folder.path().join("m/1")).unwrap();
    let layout = Layout::open(&[folder.path().into()]).unwrap();
    let found = layout.find("m").unwrap();
    let read = |path: &str| found.read(path).map_err(|failure| failure.text);
    assert_eq!(read("near").unwrap().unwrap(), "inside");
    assert_eq!(read("none"), Ok(None));
    assert_eq!(read("inside/none"), Ok(None));
    assert!(read("link").unwrap_err().contains("leads out of the repository"));
    let secret = outside.path().join("secret");
    for path in ["../m/inside", "/etc/passwd", "", ".", "a/../../x", "a\0b", secret.to_str().unwrap()] {
        assert!(read(path).unwrap_err().contains("leads out of the model's folder"), "{path}");
    }
    assert!(read("1").is_err());
    assert!(found.model(1, "model.onnx").unwrap_err().text.contains("leads out of the repository"));
    assert!(layout.find("away").unwrap_err().text.contains("leads out of the repository"));
}

#[tokio::test]
async fn a_file_becomes_an_entry() {
    let (models, folder) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    put(&models, "add one.onnx", adds(1.0));
    let source = models.path().join("add one.onnx");
    let root = folder.path().join("new");
    assert!(add(&source, &root, None, None).unwrap_err().contains("--name"));
    let added = add(&source, &root, Some("add"), None).unwrap();
    assert_eq!((added.version, added.configured, added.pins.len()), (1, true, 1));
    let pbtxt = fs::read_to_string(root.join("add/config.pbtxt")).unwrap();
    assert!(pbtxt.contains(r#"input { name: "x" data_type: TYPE_FP32 dims: [ 2 ] }"#), "{pbtxt}");
    assert!(pbtxt.contains(&added.pins[0]));

    fs::write(&source, adds(5.0)).unwrap();
    assert_eq!(add(&source, &root, Some("add"), None).unwrap().version, 2);
    assert_eq!(add(&source, &root, Some("add"), Some(7)).unwrap().version, 7);
    assert!(add(&source, &root, Some("add"), Some(7)).unwrap_err().contains("there already"));
    assert!(add(&source, &root, Some("add"), Some(0)).is_err());
    assert_eq!(fs::read_to_string(root.join("add/config.pbtxt")).unwrap(), pbtxt);
    fs::write(&source, "no model").unwrap();
    let text = add(&source, &root, Some("bad"), None).unwrap_err();
    assert!(text.contains("add one.onnx: ") && !text.contains(".adding"), "{text}");
    let left: Vec<_> =
        fs::read_dir(root.join("add")).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left.len(), 4, "{left:?}");
    fs::remove_dir_all(root.join("bad")).unwrap();

    let mut options = Options::read(&Flags::default().with_repository(Some(root.clone())), None).unwrap();
    options.control = ControlMode::None;
    let repository = Repository::open(&options, Devices::open(Vec::new(), 2).unwrap()).unwrap();
    repository.load_first().await.unwrap();
    assert_eq!(answer(&repository, "add", "7").await, Ok(5.0));
    // Version 1 is pinned, so a changed file is refused.
    fs::remove_dir_all(root.join("add/2")).unwrap();
    fs::remove_dir_all(root.join("add/7")).unwrap();
    fs::write(root.join("add/1/model.onnx"), adds(3.0)).unwrap();
    let repository = Repository::open(&options, Devices::open(Vec::new(), 2).unwrap()).unwrap();
    assert!(repository.load_first().await.unwrap_err().text.contains("has the sha256"));
}

#[test]
fn external_data_comes_along() {
    let (models, folder) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut graph = graph(&[], vec![node("Add", &["x", "w"], &["y"])], &[]);
    graph.input = vec![value("x", FLOAT, &["N", "2"])];
    graph.output = vec![value("y", FLOAT, &["N", "2"])];
    graph.initializer = vec![external("w", &[1], &[("location", "data/w.bin"), ("length", "4")])];
    put(&models, "m.onnx", bytes(&model(17, graph)));
    let source = models.path().join("m.onnx");
    let missing = add(&source, folder.path(), None, None).unwrap_err();
    assert!(missing.contains("data/w.bin"), "{missing}");
    put(&models, "data/w.bin", 1.0f32.to_le_bytes());
    put(&models, "tokenizer.json", "{}");
    put(&models, "1_Pooling/config.json", "{}");
    let added = add(&source, folder.path(), None, None).unwrap();
    assert!(
        added.folder.join("tokenizer.json").is_file() && added.folder.join("1_Pooling/config.json").is_file()
    );
    assert_eq!(added.pins.len(), 4);
    assert_eq!(fs::read(added.folder.join("data/w.bin")).unwrap(), 1.0f32.to_le_bytes());
    assert!(added.pins.iter().any(|pin| pin.contains("\"sha256.1/data/w.bin\"")), "{:?}", added.pins);
}
