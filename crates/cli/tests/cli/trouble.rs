//! The command line on a bad day: full disks, pipes in place of files, archives and models from strangers, readers that have gone
//! away, Ctrl-C.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sardonyx::{DType, Tensor};
use sardonyx_testing::onnx::build::*;
use sardonyx_testing::onnx::proto::{ModelProto, StringStringEntryProto};

use crate::npy::{array, entries, save_npz};
use crate::program::{Ended, ModelFolder, program, run};

impl ModelFolder {
    /// The names of all files, in order.
    fn files(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().to_string())
            .collect();
        names.sort();
        names
    }
}

fn relu(dims: &[&str]) -> ModelProto {
    let mut main = graph(&[], vec![node("Relu", &["x"], &["y"])], &["y"]);
    main.input = vec![value("x", FLOAT, dims)];
    model(17, main)
}

/// A program that would wait for ever is ended after this time, and fails its test.
const PATIENCE: Duration = Duration::from_secs(120);

/// The end of a program that must end by itself.
fn ended(mut child: Child, name: &str) -> Ended {
    let (step, mut waited) = (Duration::from_millis(20), Duration::ZERO);
    while child.try_wait().unwrap().is_none() {
        if waited > PATIENCE {
            child.kill().unwrap();
            panic!("{name}: waits for something that never comes");
        }
        std::thread::sleep(step);
        waited += step;
    }
    child.wait_with_output().unwrap().into()
}

fn piped(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Runs the program in a shell after these commands.
fn in_shell(before: &str, arguments: &[&str]) -> Child {
    let script = format!("{before}; exec \"$0\" \"$@\"");
    piped(Command::new("sh").args(["-c", &script, env!("CARGO_BIN_EXE_sardonyx")]).args(arguments))
}

#[test]
fn a_full_disk_leaves_the_file_that_was_there() {
    let place = ModelFolder::of(&relu(&["4096"]));
    let out = place.path("out.npz");
    let arguments = ["run", &place.model, "--device", "cpu", "--outputs", &out];
    for before in [None, Some("what was there")] {
        if let Some(text) = before {
            fs::write(&out, text).unwrap();
        }
        // No file may become larger than 1,024 bytes (512 in some shells).
        let full = ended(in_shell("trap '' XFSZ; ulimit -f 1", &arguments), "a full disk");
        assert_eq!((full.code, full.out.as_str()), (2, ""), "{full:?}");
        assert!(full.err.starts_with("error: ") && full.err.lines().count() == 1, "{full:?}");
        assert_eq!(fs::read_to_string(&out).ok().as_deref(), before);
        let files: &[&str] = if before.is_some() { &["model.onnx", "out.npz"] } else { &["model.onnx"] };
        assert_eq!(place.files(), files);
    }
    assert_eq!(run(&arguments).code, 0);
    assert_eq!(entries(Path::new(&out)).len(), 1);
    assert_eq!(place.files(), ["model.onnx", "out.npz"]);
}

/// A limit of address space stands for a host without memory: inputs that are drawn, inputs of a file, and what the reference
/// computes.
#[test]
fn a_host_without_memory_is_an_error() {
    const ADDRESSES: &str = "ulimit -v 600000";
    let place = ModelFolder::of(&relu(&["n"]));
    let file = place.path("x.npy");
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (200000000,), }";
    let text = format!("{header:117}\n");
    let length = u16::try_from(text.len()).unwrap().to_le_bytes();
    fs::write(&file, [&b"\x93NUMPY\x01\x00"[..], &length[..], text.as_bytes()].concat()).unwrap();
    File::options().write(true).open(&file).unwrap().set_len(128 + 800_000_000).unwrap();
    let (drawn, computed, given) = ("x=200000000", "x=30000000", format!("x={file}"));
    for arguments in [["--shape", drawn], ["--shape", computed], ["-i", &given]] {
        let arguments = [&["run", &place.model, "--device", "cpu"][..], &arguments].concat();
        let end = ended(in_shell(ADDRESSES, &arguments), "a host without memory");
        assert_eq!((end.code, end.out.as_str()), (2, ""), "{arguments:?}: {end:?}");
        assert!(
            end.err.contains("out of memory: ") && end.err.lines().count() == 1,
            "{arguments:?}: {end:?}"
        );
    }
    let fits = ["run", &place.model, "--device", "cpu", "--shape", "x=3"];
    assert_eq!(ended(in_shell(ADDRESSES, &fits), "little memory").code, 0);
}

/// The distinct complaints of the program under rising limits of address space, up to the first with which it ends well.
fn lacks(arguments: &[&str]) -> Vec<String> {
    let mut lacks: Vec<String> = Vec::new();
    for megabytes in (60..4000).step_by(20) {
        // A second thread makes glibc reserve 128 MB of addresses for a moment, without memory.
        let limit = format!("export MALLOC_ARENA_MAX=1; ulimit -v {}", megabytes * 1000);
        let end = ended(in_shell(&limit, arguments), "a host without memory");
        match end.code {
            0 => return lacks,
            // The system has no room for the program itself.
            _ if lacks.is_empty() && ended(in_shell(&limit, &["--version"]), "no program").code != 0 => {
                continue;
            }
            _ => {}
        }
        assert_eq!((end.code, end.out.as_str()), (2, ""), "{arguments:?}, {megabytes} MB: {end:?}");
        let says_so = end.err.contains("out of memory") && end.err.lines().count() == 1;
        assert!(says_so, "{arguments:?}, {megabytes} MB: {end:?}");
        if lacks.last() != Some(&end.err) {
            lacks.push(end.err);
        }
    }
    panic!("{arguments:?}: never ends well: {lacks:?}")
}

/// Inputs of every form that files have, each read under limits that rise in small steps.
#[test]
fn files_that_do_not_fit_the_memory_are_errors() {
    let mut main = graph(&[], vec![node("ReduceMax", &["x"], &["y"])], &["y"]);
    main.input = vec![value("x", FLOAT, &["1", "3", "h", "w"])];
    let place = ModelFolder::of(&model(17, main));
    let count = 3 * 2000 * 2000;
    let files = [("--image", "x.png"), ("-i", "x.npy"), ("-i", "x.pb"), ("--inputs", "x.npz")];
    let path = |name| place.path(name);
    sardonyx_pictures::Picture::new(2000, 2000, [7; 3]).save_png(path("x.png")).unwrap();
    let elements = array("<f4", false, "(1, 3, 2000, 2000)", &vec![0; 4 * count]);
    fs::write(path("x.npy"), &elements).unwrap();
    save_npz(&path("x.npz"), &[("x".into(), elements)]);
    fs::write(path("x.pb"), Tensor::zeros(DType::F32, &[1, 3, 2000, 2000]).unwrap().to_onnx("x")).unwrap();
    for (option, name) in files {
        let file = path(name);
        let given = if option == "--inputs" { file } else { format!("x={file}") };
        let lacks = lacks(&["run", &place.model, "--device", "cpu", option, &given]);
        let read = lacks.iter().any(|lack| lack.contains("picture") || lack.contains(name));
        assert!(lacks.len() > 1 && read, "{name}: {lacks:?}");
    }
}

#[test]
fn outputs_go_where_a_link_leads_and_keep_the_files_mode() {
    use std::os::unix::fs::PermissionsExt;
    let place = ModelFolder::of(&relu(&["2"]));
    let (real, link) = (place.path("real.npz"), place.path("link.npz"));
    fs::write(&real, "old").unwrap();
    fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    assert_eq!(run(&["run", &place.model, "--device", "cpu", "--outputs", &link]).code, 0);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(entries(Path::new(&real)).len(), 1);
    assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o640);
    fs::set_permissions(&real, fs::Permissions::from_mode(0o440)).unwrap();
    let refused = run(&["run", &place.model, "--device", "cpu", "--outputs", &real]);
    assert_eq!(refused.code, 2);
    assert!(refused.err.contains("read-only"), "{refused:?}");
}

#[test]
fn pipes_and_devices_are_refused_unopened() {
    let place = ModelFolder::of(&relu(&["2"]));
    let pipe = place.path("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let folder = place.folder.path().to_str().unwrap().to_string();
    for path in [pipe.as_str(), "/dev/zero", &folder] {
        let named = format!("x={path}");
        for arguments in [
            vec!["run", path],
            vec!["inspect", path],
            vec!["run", &place.model, "--device", "cpu", "--inputs", path],
            vec!["run", &place.model, "--device", "cpu", "-i", &named],
            vec!["run", &place.model, "--device", "cpu", "--outputs", path],
            vec!["suite", &folder, path, "--device", "cpu"],
        ] {
            let refused = ended(piped(program().args(&arguments)), &arguments.join(" "));
            assert_eq!((refused.code, refused.out.as_str()), (2, ""), "{arguments:?}: {refused:?}");
            assert!(refused.err.contains("regular file"), "{arguments:?}: {refused:?}");
        }
    }
    assert_eq!(place.files(), ["model.onnx", "pipe"]);
}

#[test]
fn archives_that_hold_more_than_their_arrays_are_refused() {
    let place = ModelFolder::of(&relu(&["2"]));
    let path = place.path("in.npz");
    let run_on = |arguments: &[&str]| run(&[&["run", &place.model, "--device", "cpu"], arguments].concat());
    let two = || array("<f4", false, "(2,)", &[0; 8]);
    let longer = || array("<f4", false, "(2,)", &vec![0; 64 << 20]);
    save_npz(&path, &[("x".into(), longer())]);
    assert!(fs::metadata(&path).unwrap().len() < 1 << 20);
    let ended = run_on(&["--inputs", &path]);
    assert_eq!(ended.code, 2);
    assert!(ended.err.contains("'x': it holds more bytes than its header says"), "{ended:?}");
    // Nor is an array unpacked that the model does not take.
    save_npz(&path, &[("x".into(), two()), ("other".into(), longer())]);
    let ended = run_on(&["--inputs", &path]);
    assert_eq!(ended.code, 2);
    assert!(ended.err.contains("'other': the model has no such input"), "{ended:?}");
    // An archive that gives a smaller size than its array has.
    save_npz(&path, &[("x".into(), longer())]);
    let (said, is) = (two().len() as u32, longer().len() as u32);
    let mut bytes = fs::read(&path).unwrap();
    let at: Vec<usize> = (0..bytes.len() - 4).filter(|&i| bytes[i..i + 4] == is.to_le_bytes()).collect();
    assert!(!at.is_empty());
    at.iter().for_each(|&i| bytes[i..i + 4].copy_from_slice(&said.to_le_bytes()));
    fs::write(&path, bytes).unwrap();
    assert_eq!(run_on(&["--inputs", &path]).code, 2);
    // A file of one array.
    let single = place.path("x.npy");
    fs::write(&single, [two(), vec![0]].concat()).unwrap();
    let ended = run_on(&["-i", &format!("x={single}")]);
    assert_eq!(ended.code, 2);
    assert!(ended.err.contains("more bytes than its header says"), "{ended:?}");
    fs::write(&single, two()).unwrap();
    assert_eq!(run_on(&["-i", &format!("x={single}")]).code, 0);
}

/// A name that would retitle a terminal, forge a line, and turn the direction of writing.
const FORGED: &str = "\u{1b}]0;own\u{7}x\n\nplacement 99 nodes\u{202e}\u{9b}2J";

/// A model in which everything that has a name has a name like this, and fails where it is to be run.
fn forged(op_type: &str, name: &str) -> ModelProto {
    let (x, y) = (format!("x{name}"), format!("y{name}"));
    let mut relu = node(op_type, &[&x], &[&y]);
    relu.name = name.into();
    let mut main = graph(&[], vec![relu], &[&y]);
    main.name = name.into();
    main.input = vec![value(&x, FLOAT, &[name, "2"])];
    let mut made = model(17, main);
    made.producer_name = name.into();
    let entry = StringStringEntryProto { key: name.into(), value: name.into() };
    made.metadata_props.push(entry);
    made.opset_import.push(import(name, 1));
    made
}

#[test]
fn names_in_files_are_escaped_and_shortened() {
    // An archive takes names of up to 64 KiB.
    let long = "n".repeat(60_000);
    let stages = ["model", "graph", "passes", "program", "memory", "wgsl"];
    for name in [FORGED, long.as_str()] {
        let place = ModelFolder::of(&forged("Relu", name));
        let unknown = ModelFolder::of(&forged(name, name));
        let shape = format!("x{name}=1x2");
        let given = ["--shape", &shape];
        let archive = place.path("in.npz");
        save_npz(&archive, &[(format!("z{name}"), array("<f4", false, "(2,)", &[0; 8]))]);
        let mut calls: Vec<Vec<&str>> = vec![
            vec!["run", &place.model, "--device", "cpu"],
            vec!["run", &place.model, "--inputs", &archive],
            vec!["run", &unknown.model],
            vec!["inspect", &place.model],
            vec!["inspect", &unknown.model],
            vec!["inspect", &unknown.model, "--stage", "graph"],
            vec!["inspect", &place.model, "--why", "z"],
        ];
        if name == FORGED {
            for json in [&[][..], &["--json"]] {
                calls.push([&["run", &place.model, "--device", "cpu"], &given[..], json].concat());
                calls.push(
                    [&["bench", &place.model, "--device", "cpu", "--runs", "1"], &given[..], json].concat(),
                );
                calls.push([&["verify", &place.model, "--all"], &given[..], json].concat());
                calls.push([&["inspect", &place.model], &given[..], json].concat());
                calls.push([&["inspect", &place.model, "--why", name], &given[..], json].concat());
            }
        }
        calls.extend(stages.iter().map(|stage| vec!["inspect", place.model.as_str(), "--stage", stage]));
        for call in calls {
            let what =
                call.iter().map(|part| part.escape_debug().take(40).collect::<String>()).collect::<Vec<_>>();
            let ended = run(&call);
            let all = format!("{}{}", ended.out, ended.err);
            assert!(!all.is_empty(), "{what:?}");
            let acts = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
            assert!(!all.contains(acts), "{what:?}: {:?}", all.chars().take(4000).collect::<String>());
            assert!(!all.lines().any(|line| line.starts_with("placement 99")), "{what:?}: {all}");
            assert!(all.len() < 20_000 || call.contains(&"wgsl"), "{what:?}: {} bytes", all.len());
        }
    }
}

/// A file that takes no byte.
fn full() -> Stdio {
    File::options().write(true).open("/dev/full").unwrap().into()
}

/// The writing end of a pipe that nobody reads.
fn unread() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

#[test]
#[cfg(target_os = "linux")]
fn outputs_that_take_no_text_end_the_program_with_a_code() {
    let place = ModelFolder::of(&relu(&["2"]));
    let works = ["run", place.model.as_str(), "--device", "cpu"];
    let fails = ["run", "no-such.onnx"];
    let code = |arguments: &[&str], out: Stdio, err: Stdio| {
        let mut child =
            program().args(arguments).stdin(Stdio::null()).stdout(out).stderr(err).spawn().unwrap();
        child.wait().unwrap().code()
    };
    let into_full = program().args(works).stdout(full()).output().unwrap();
    let said = String::from_utf8(into_full.stderr).unwrap();
    assert_eq!(into_full.status.code(), Some(2));
    assert!(said.starts_with("error: standard output: ") && said.lines().count() == 1, "{said}");
    assert_eq!(code(&works, unread(), Stdio::null()), Some(141));
    for err in [full, unread] {
        assert_eq!(code(&works, Stdio::null(), err()), Some(0));
        assert_eq!(code(&works, full(), err()), Some(2));
        assert_eq!(code(&fails, Stdio::null(), err()), Some(2));
        assert_eq!(code(&["frobnicate"], Stdio::null(), err()), Some(2));
    }
    // Closed from the start.
    let closed = |arguments: &[&str]| ended(in_shell("exec >&- 2>&-", arguments), "closed").code;
    assert_eq!((closed(&works), closed(&fails)), (0, 2));
}

/// Starts the program, and sends it SIGINT once it handles the signal.
#[cfg(target_os = "linux")]
fn interrupted(arguments: &[&str]) -> Ended {
    const SIGINT: u64 = 2;
    let mut child = piped(program().args(arguments));
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    let handles = || {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let mask = text.lines().find_map(|line| line.strip_prefix("SigCgt:")).map(str::trim);
        mask.and_then(|mask| u64::from_str_radix(mask, 16).ok())
            .is_some_and(|mask| mask >> (SIGINT - 1) & 1 == 1)
    };
    while !handles() {
        assert!(child.try_wait().unwrap().is_none(), "{arguments:?}: ended before it handled SIGINT");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    ended(child, &arguments.join(" "))
}

#[test]
#[cfg(target_os = "linux")]
fn ctrl_c_ends_work_with_130() {
    // Thousands of products, which take minutes on the reference.
    let names: Vec<String> = (0..=4000).map(|i| format!("x{i}")).collect();
    let product = |i: usize| node("MatMul", &[&names[i], "x0"], &[&names[i + 1]]);
    let mut main = graph(&[], (0..4000).map(product).collect(), &["x4000"]);
    main.input = vec![value("x0", FLOAT, &["256", "256"])];
    let place = ModelFolder::of(&model(17, main));
    let out = place.path("out.npz");
    fs::write(&out, "what was there").unwrap();
    let endless = "1000000000";
    for arguments in [
        vec!["run", &place.model, "--device", "cpu", "--outputs", &out],
        vec!["verify", &place.model],
        vec!["bench", &place.model, "--device", "cpu"],
        vec!["bench", &place.model, "--runs", endless],
    ] {
        let ended = interrupted(&arguments);
        assert_eq!((ended.code, ended.out.as_str(), ended.err.as_str()), (130, "", ""), "{arguments:?}");
    }
    assert_eq!(fs::read_to_string(&out).unwrap(), "what was there");
    assert_eq!(place.files(), ["model.onnx", "out.npz"]);
}

#[test]
fn nothing_is_said_of_displays() {
    let place = ModelFolder::of(&relu(&["2"]));
    for arguments in [vec!["devices"], vec!["run", &place.model]] {
        for folder in [None, Some("relative")] {
            let mut command = program();
            command.args(&arguments).env_remove("XDG_RUNTIME_DIR");
            folder.map(|folder| command.env("XDG_RUNTIME_DIR", folder));
            let ended: Ended = command.output().unwrap().into();
            assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{arguments:?}");
        }
    }
}
