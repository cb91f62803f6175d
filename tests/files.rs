//! Model files that change while the model is in use.
#![allow(clippy::unwrap_used)] // A test that cannot go on has failed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sardonyx::{Device, Error, FileAccess, LoadOptions, Model, Session, SessionOptions, Tensor};
use sardonyx_testing::devices;
use sardonyx_testing::onnx::build::{self, FLOAT, bytes, external, graph, model, node, value};

/// More bytes than the smallest tensor that stays in a mapped file.
const COUNT: usize = 4096;

/// The weights `w`.
fn weights() -> Vec<f32> {
    (0..COUNT).map(|i| i as f32).collect()
}

/// A folder with the model `y = x + w`, and the file in which `w` lies: the model's own, or one beside it.
struct WeightsFile {
    folder: tempfile::TempDir,
    beside: bool,
}

impl WeightsFile {
    fn new(beside: bool) -> WeightsFile {
        let place = WeightsFile { folder: tempfile::tempdir().unwrap(), beside };
        let raw: Vec<u8> = weights().iter().flat_map(|v| v.to_le_bytes()).collect();
        let dims = [COUNT as i64];
        let tensor = match beside {
            true => external("w", &dims, &[("location", "w.bin")]),
            false => build::weights("w", &dims, &weights()),
        };
        fs::write(place.folder.path().join("w.bin"), raw).unwrap();
        let mut main = graph(&[], vec![node("Add", &["x", "w"], &["y"])], &["y"]);
        main.input = vec![value("x", FLOAT, &[&COUNT.to_string()])];
        main.initializer = vec![tensor];
        fs::write(place.model(), bytes(&model(21, main))).unwrap();
        place
    }

    fn model(&self) -> PathBuf {
        self.folder.path().join("m.onnx")
    }

    fn weights(&self) -> PathBuf {
        if self.beside { self.folder.path().join("w.bin") } else { self.model() }
    }

    fn load(&self, files: FileAccess) -> Model {
        Model::load_with(self.model(), LoadOptions::new().files(files)).unwrap()
    }
}

fn cut_short(path: &Path) {
    File::options().write(true).open(path).unwrap().set_len(64).unwrap();
}

fn written_to(path: &Path) {
    let later = SystemTime::now() + Duration::from_secs(5);
    File::options().write(true).open(path).unwrap().set_modified(later).unwrap();
}

/// Checks each device, the reference among them.
fn each(check: impl Fn(&Device)) {
    check(&Device::reference());
    devices::each().iter().for_each(check);
}

fn session(device: &Device, model: &Model) -> sardonyx::Result<Session> {
    Session::new(device, model, SessionOptions::default())
}

fn run(session: &Session) -> sardonyx::Result<Vec<f32>> {
    let x = Tensor::from_vec(&[COUNT], vec![0.5f32; COUNT])?;
    session.run(&[("x", &x)])?["y"].to_vec()
}

fn expected() -> Vec<f32> {
    weights().iter().map(|w| w + 0.5).collect()
}

#[test]
fn a_mapped_file_that_has_changed_is_an_error() {
    each(|device| {
        for (beside, change) in
            [(false, cut_short as fn(&Path)), (true, cut_short), (false, written_to), (true, written_to)]
        {
            let place = WeightsFile::new(beside);
            let model = place.load(FileAccess::Map);
            let made = session(device, &model).unwrap();
            change(&place.weights());
            for outcome in [run(&made), session(device, &model).and_then(|session| run(&session))] {
                match outcome {
                    Err(Error::FileChanged { path, .. }) => {
                        assert_eq!(path.file_name(), place.weights().file_name());
                    }
                    other => panic!("{}: {other:?}", device.name()),
                }
            }
        }
    });
}

#[test]
fn weights_on_the_device_do_not_need_their_file() {
    for device in devices::each() {
        let place = WeightsFile::new(true);
        let made = session(&device, &place.load(FileAccess::Map)).unwrap();
        assert_eq!(run(&made).unwrap(), expected());
        cut_short(&place.weights());
        assert_eq!(run(&made).unwrap(), expected());
        // Weights of another model are compared with those that are there.
        let other = WeightsFile::new(true);
        assert_eq!(run(&session(&device, &other.load(FileAccess::Map)).unwrap()).unwrap(), expected());
    }
}

#[test]
fn files_that_are_read_may_change() {
    each(|device| {
        for beside in [false, true] {
            let place = WeightsFile::new(beside);
            let model = place.load(FileAccess::Read);
            cut_short(&place.weights());
            assert_eq!(run(&session(device, &model).unwrap()).unwrap(), expected());
        }
    });
}

/// A program that replaces a file by renaming another leaves the old contents to those who have opened it.
#[test]
#[cfg(unix)]
fn files_may_be_replaced() {
    each(|device| {
        let place = WeightsFile::new(true);
        let model = place.load(FileAccess::Map);
        let new = place.folder.path().join("new");
        fs::write(&new, "short").unwrap();
        fs::rename(&new, place.weights()).unwrap();
        assert_eq!(run(&session(device, &model).unwrap()).unwrap(), expected());
    });
}

#[test]
fn small_weights_do_not_depend_on_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.onnx");
    let mut main = graph(&["x"], vec![node("Add", &["x", "w"], &["y"])], &["y"]);
    main.initializer = vec![build::weights("w", &[2], &[1.0, 2.0])];
    fs::write(&path, bytes(&model(21, main))).unwrap();
    let model = Model::load(&path).unwrap();
    cut_short(&path);
    each(|device| {
        let x = Tensor::from_slice(&[2], &[1.0f32, 1.0]).unwrap();
        let outputs = session(device, &model).unwrap().run(&[("x", &x)]).unwrap();
        assert_eq!(outputs["y"].as_slice::<f32>().unwrap(), [2.0, 3.0]);
    });
}

#[test]
#[cfg(unix)]
fn a_pipe_is_no_model() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for files in [FileAccess::Map, FileAccess::Read] {
        let refused = Model::load_with(&pipe, LoadOptions::new().files(files)).unwrap_err();
        assert!(matches!(refused, Error::Io { .. }), "{refused}");
    }
}
