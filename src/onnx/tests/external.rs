//! External data: what is read, and what is refused.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;

/// A folder `model/` with a model whose initializer `w` (two f32) is external, and a folder `elsewhere/` beside it.
struct ExternalFolders {
    root: tempfile::TempDir,
}

impl ExternalFolders {
    fn new(entries: &[(&str, &str)]) -> ExternalFolders {
        let site = ExternalFolders { root: tempfile::tempdir().unwrap() };
        fs::create_dir_all(site.folder().join("sub")).unwrap();
        fs::create_dir_all(site.elsewhere()).unwrap();
        site.write(entries);
        site
    }

    fn folder(&self) -> PathBuf {
        self.root.path().join("model")
    }

    fn elsewhere(&self) -> PathBuf {
        self.root.path().join("elsewhere")
    }

    fn write(&self, entries: &[(&str, &str)]) {
        let mut main = graph(&["x"], vec![node("Add", &["x", "w"], &["y"])], &["y"]);
        main.initializer = vec![external("w", &[2], entries)];
        fs::write(self.folder().join("m.onnx"), bytes(&model(21, main))).unwrap();
    }

    fn load(&self) -> Result<Vec<f32>, String> {
        self.load_at(&self.folder().join("m.onnx"))
    }

    fn load_at(&self, path: &Path) -> Result<Vec<f32>, String> {
        let imported = load(path).map_err(|e| e.to_string())?;
        Ok(constant(&imported.graph, "w").to_vec().unwrap())
    }

    fn refused(&self) -> String {
        let error = self.load().unwrap_err();
        error.strip_prefix("external data of tensor 'w': ").unwrap_or(&error).to_string()
    }
}

fn data(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

#[test]
fn data_beside_the_model_are_read() {
    let site = ExternalFolders::new(&[("location", "w.bin")]);
    fs::write(site.folder().join("w.bin"), data(&[1.0, 2.0])).unwrap();
    assert_eq!(site.load().unwrap(), [1.0, 2.0]);
    site.write(&[("location", "./sub/w.bin"), ("offset", "4"), ("length", "8"), ("checksum", "?")]);
    fs::write(site.folder().join("sub/w.bin"), data(&[0.0, 3.0, 4.0, 0.0])).unwrap();
    assert_eq!(site.load().unwrap(), [3.0, 4.0]);
}

#[test]
fn tensors_share_one_mapping() {
    let site = ExternalFolders::new(&[]);
    // Smaller tensors are copied.
    fs::write(site.folder().join("w.bin"), data(&[1.0; 2048])).unwrap();
    let mut main = graph(&[], vec![node("Add", &["v", "w"], &["y"])], &["y"]);
    main.initializer = vec![
        external("v", &[1024], &[("location", "w.bin")]),
        external("w", &[1024], &[("location", "w.bin"), ("offset", "4096")]),
    ];
    let path = site.folder().join("two.onnx");
    fs::write(&path, bytes(&model(21, main))).unwrap();
    let graph = load(&path).unwrap().graph;
    let (v, w) = (constant(&graph, "v").bytes().as_ptr(), constant(&graph, "w").bytes().as_ptr());
    assert_eq!(v.wrapping_add(4096), w);
}

#[test]
fn paths_out_of_the_folder_are_refused() {
    let site = ExternalFolders::new(&[]);
    let secret = site.elsewhere().join("secret.bin");
    fs::write(&secret, data(&[1.0, 2.0])).unwrap();
    let absolute = secret.to_str().unwrap();
    for location in
        ["../elsewhere/secret.bin", "sub/../../elsewhere/secret.bin", absolute, "sub/../w.bin", ""]
    {
        site.write(&[("location", location)]);
        assert_eq!(site.refused(), format!("'{location}' is not a path inside the model's folder"));
    }
}

#[cfg(unix)]
#[test]
fn links_out_of_the_folder_are_refused() {
    let site = ExternalFolders::new(&[("location", "w.bin")]);
    let secret = site.elsewhere().join("secret.bin");
    fs::write(&secret, data(&[1.0, 2.0])).unwrap();
    let inside = site.folder().join("w.bin");
    std::os::unix::fs::symlink(&secret, &inside).unwrap();
    assert_eq!(site.refused(), "'w.bin' is a link out of the model's folder");
    fs::remove_file(&inside).unwrap();
    fs::hard_link(&secret, &inside).unwrap();
    assert_eq!(site.refused(), "'w.bin' is a hard link, which may be a file from elsewhere: copy it");
    fs::remove_file(&inside).unwrap();
    std::os::unix::fs::symlink(site.elsewhere(), site.folder().join("away")).unwrap();
    site.write(&[("location", "away/secret.bin")]);
    assert_eq!(site.refused(), "'away/secret.bin' is a link out of the model's folder");
}

#[cfg(unix)]
#[test]
fn a_download_cache_links_model_and_data_alike() {
    let site = ExternalFolders::new(&[("location", "w.bin")]);
    fs::rename(site.folder().join("m.onnx"), site.elsewhere().join("6f1e")).unwrap();
    fs::write(site.elsewhere().join("a80c"), data(&[5.0, 6.0])).unwrap();
    std::os::unix::fs::symlink("../elsewhere/6f1e", site.folder().join("m.onnx")).unwrap();
    std::os::unix::fs::symlink("../elsewhere/a80c", site.folder().join("w.bin")).unwrap();
    assert_eq!(site.load().unwrap(), [5.0, 6.0]);
}

#[test]
fn data_that_are_not_there_are_refused() {
    let site = ExternalFolders::new(&[("location", "w.bin")]);
    assert!(site.refused().starts_with("'w.bin' cannot be read: "));
    fs::write(site.folder().join("w.bin"), data(&[1.0])).unwrap();
    assert_eq!(site.refused(), "'w.bin' is too short: it has 4 bytes, and the tensor takes 8 from 0 on");
    fs::write(site.folder().join("w.bin"), data(&[1.0, 2.0])).unwrap();
    let max = u64::MAX.to_string();
    let cases = [
        (
            vec![("location", "w.bin"), ("offset", "1")],
            "'w.bin' is too short: it has 8 bytes, and the tensor takes 8 from 1 on",
        ),
        (
            vec![("location", "w.bin"), ("offset", max.as_str())],
            "'w.bin' is too short: it has 8 bytes, and the tensor takes 8 from 18446744073709551615 on",
        ),
        (vec![("location", "w.bin"), ("offset", "-1")], "its offset '-1' is no byte count"),
        (
            vec![("location", "w.bin"), ("length", "4")],
            "its length is 4 bytes, and the tensor's shape takes 8",
        ),
        (vec![("location", "w.bin"), ("length", "8e9")], "its length '8e9' is no byte count"),
        (vec![("location", "sub")], "'sub' is not a file"),
        (vec![], "it has no location"),
    ];
    for (entries, reason) in cases {
        site.write(&entries);
        assert_eq!(site.refused(), reason);
    }
    fs::write(site.folder().join("empty.bin"), []).unwrap();
    site.write(&[("location", "empty.bin")]);
    assert_eq!(site.refused(), "'empty.bin' is too short: it has 0 bytes, and the tensor takes 8 from 0 on");
}

#[test]
fn a_model_given_as_bytes_has_no_folder() {
    let mut main = graph(&["x"], vec![], &["x"]);
    main.initializer = vec![external("w", &[2], &[("location", "w.bin")])];
    assert_eq!(
        refusal(&model(21, main)),
        "external data of tensor 'w': 'w.bin' lies beside the model, and a model given as bytes has no folder: use Model::load"
    );
}

#[test]
fn strings_cannot_be_external() {
    let mut main = graph(&["x"], vec![], &["x"]);
    let mut strings = external("w", &[2], &[("location", "w.bin")]);
    strings.data_type = DType::String.onnx();
    main.initializer = vec![strings];
    assert_eq!(
        refusal(&model(21, main)),
        "invalid model: tensor 'w' holds strings, which cannot be external data"
    );
}

#[test]
fn what_is_no_file_cannot_be_loaded() {
    let site = ExternalFolders::new(&[]);
    let error = load(&site.folder()).unwrap_err().to_string();
    assert_eq!(error, format!("{}: not a regular file", site.folder().display()));
    let error = load(&site.folder().join("none.onnx")).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{}: ", site.folder().join("none.onnx").display())), "{error}");
    fs::write(site.folder().join("m.onnx"), []).unwrap();
    assert_eq!(site.load().unwrap_err(), "not an ONNX model: it is empty");
}
