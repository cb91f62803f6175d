//! What the demo says to someone who calls it in another way than `scripts/demo.sh` does.
#![allow(clippy::unwrap_used)] // A test that cannot go on has failed.

use std::path::Path;
use std::process::{Command, Output};

fn demo(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sardonyx-demo")).args(arguments).output().unwrap()
}

/// The demo's complaint.
fn complaint(arguments: &[&str]) -> String {
    let output = demo(arguments);
    assert_eq!(
        (output.status.code(), output.stdout.as_slice()),
        (Some(2), &b""[..]),
        "{arguments:?}: {output:?}"
    );
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn help_names_every_option() {
    for flag in ["--help", "-h"] {
        let output = demo(&["folder", flag]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text}");
        for word in ["--device", "--out", "PNG, JPEG or WebP", "usage:"] {
            assert!(text.contains(word), "{word}: {text}");
        }
    }
}

#[test]
fn a_wrong_call_is_explained() {
    let calls: [(&[&str], &str); 5] = [
        (&[], "the folder of the models is not given; see --help"),
        (&["folder", "--device"], "--device needs a value; see --help"),
        (&["folder", "--out"], "--out needs a value; see --help"),
        (&["folder", "--colour"], "there is no option --colour; see --help"),
        (&["folder", "a.png", "b.png"], "one picture at a time: b.png is one too many"),
    ];
    for (call, expected) in calls {
        assert_eq!(complaint(call), format!("error: {expected}\n"), "{call:?}");
    }
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let text = path("notes.txt");
    std::fs::write(&text, "no picture").unwrap();
    let missing = path("missing.jpg");
    let here = path("");
    for (picture, reason) in [
        (&text, "is no picture that can be read; PNG, JPEG and WebP can"),
        (&missing, "there is no such file"),
        (&here, "is a folder, not a picture"),
    ] {
        assert_eq!(complaint(&[&here, picture]), format!("error: {picture}: {reason}\n"));
    }
    // Without a picture the demo looks for the page that the script fetches.
    assert!(complaint(&[&here]).ends_with("page.png: there is no such file\n"));
}

#[test]
fn missing_models_are_told_before_anything_is_computed() {
    let folder = tempfile::tempdir().unwrap();
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../pictures/tests/files/quarters.jpg");
    let output = demo(&[folder.path().to_str().unwrap(), "--device", "cpu", page.to_str().unwrap()]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("PP-OCRv6_det_tiny.onnx"), "{said}");
}

#[test]
fn a_picture_that_could_not_be_written_is_refused_before_the_page_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path().to_str().unwrap();
    let file = format!("{here}/file");
    std::fs::write(&file, "").unwrap();
    for (out, why) in [
        (here.to_string(), "is a folder; name a file in it"),
        (format!("{here}/a.jpg"), "a PNG is written, so the file's name must end in .png"),
        (format!("{here}/no/a.png"), "there is no folder"),
        (format!("{file}/a.png"), "there is no folder"),
    ] {
        let said = complaint(&[here, "--out", &out]);
        assert!(said.starts_with(&format!("error: --out {out}: {why}")), "{said}");
    }
    if cfg!(target_os = "linux") {
        assert!(
            complaint(&[here, "--out", "/proc/a.png"]).contains("nothing can be written in the folder /proc")
        );
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left there");
}

#[test]
fn devices_are_named_in_the_words_of_this_command_line() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../pictures/tests/files/quarters.jpg");
    let folder = tempfile::tempdir().unwrap();
    let said = complaint(&[folder.path().to_str().unwrap(), "--device", "voodoo", page.to_str().unwrap()]);
    assert!(said.starts_with("error: no GPU adapter matches 'voodoo': "), "{said}");
    assert!(!said.contains("::") && !said.contains("sardonyx devices"), "{said}");
    let empty = complaint(&[folder.path().to_str().unwrap(), "--device", ""]);
    assert!(empty.starts_with("error: --device: is empty"), "{empty}");
}

#[test]
fn a_reader_that_goes_away_ends_the_demo_without_a_word() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_sardonyx-demo"));
    child.arg("--help").stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    // The pipe has no reader by the time that the program writes, or soon after; the help is then lost, and nothing is said.
    let mut child = child.spawn().unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert!(ended.stderr.is_empty() && matches!(ended.status.code(), Some(0 | 141)), "{ended:?}");
}

/// The script looks at its arguments before it fetches and builds, and says the same as the program.
#[cfg(unix)]
#[test]
fn the_script_says_at_once_what_is_wrong() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/demo.sh");
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path().to_str().unwrap();
    let (jpg, nowhere, missing) =
        (format!("{here}/a.jpg"), format!("{here}/no/a.png"), format!("{here}/missing.png"));
    let calls: [&[&str]; 8] = [
        &["--device"],
        &["--out"],
        &["--colour"],
        &["--out", here],
        &["--out", &jpg],
        &["--out", &nowhere],
        &[here],
        &[&missing],
    ];
    for call in calls {
        let output = Command::new(&script).args(call).output().unwrap();
        let program = complaint(&[&[here], call].concat());
        assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap()), (Some(2), program));
        assert!(output.stdout.is_empty());
    }
    let help = Command::new(&script).arg("--help").output().unwrap();
    assert!(
        help.status.success()
            && String::from_utf8(help.stdout).unwrap().starts_with("usage: scripts/demo.sh")
    );
}
