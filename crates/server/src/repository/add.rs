//! Makes an entry of a repository of an ONNX file.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::{Component, Path, PathBuf};

use sardonyx::{Error, FileAccess, LoadOptions, Model};

use super::layout::{Layout, digest};
use super::url::url;
use crate::config::{self, Config, PBTXT, Scheduling, check_name, parameters};
use crate::proto::{DataType, ModelConfig};
use crate::texts;

/// What [`add`] has made.
#[derive(Clone, Debug)]
pub struct Added {
    /// The model's name.
    pub name: String,
    /// The version's number.
    pub version: u64,
    /// The folder of the version.
    pub folder: PathBuf,
    /// Whether there is a new `config.pbtxt`; one that was there is left as it is.
    pub configured: bool,
    /// Lines for the configuration, by which the server refuses files with other contents. A new one has them.
    pub pins: Vec<String>,
}

/// Copies the ONNX file `model`, with the files of its external data and a tokenizer beside it, into `repository` as a version of the model `name`: the
/// file's name and the next version, where they are not given. A model without configuration gets one that people can edit.
///
/// The version appears when it is whole, so a server may look at the repository meanwhile.
///
/// # Errors
/// A text: the repository is no folder; the model cannot be loaded, has nodes that are not supported, or contradicts the configuration; the version is there; a
/// file cannot be written.
pub fn add(
    model: &Path,
    repository: &Path,
    name: Option<&str>,
    version: Option<u64>,
) -> Result<Added, String> {
    let stem = model.file_stem().unwrap_or_default().to_string_lossy();
    let name = name.unwrap_or(&stem);
    check_name(name).map_err(|failure| format!("{failure}; give it one with --name"))?;
    if let Some(url) = url(repository) {
        return Err(format!(
            "{url}: an entry is made in a folder; make it there, and copy it with the store's own tool"
        ));
    }
    let entry = repository.join(name);
    fs::create_dir_all(&entry).map_err(in_file(&entry))?;
    let layout = Layout::open(&[repository.to_path_buf()]).map_err(|failure| failure.text)?;
    let folder = layout.find(name).map_err(|failure| failure.text)?;
    let version = match version {
        Some(0) => return Err("versions are numbers from 1".into()),
        Some(version) => version,
        None => {
            let last = folder.versions().map_err(|failure| failure.text)?.last().copied().unwrap_or(0);
            last.checked_add(1).ok_or("there is no number after the last version's")?
        }
    };
    let target = entry.join(version.to_string());
    if target.exists() {
        return Err(format!(
            "{}: the version is there already; name another with --version",
            target.display()
        ));
    }
    let given = config::read(&folder).map_err(|failure| failure.text)?;
    let is_new = given == ModelConfig::default();
    let file = config::file(&given)?;

    let staging = Staging::new(&entry)?;
    let copied = copy(model, &staging.path, &file)?;
    let loaded = Model::load_with(staging.path.join(&file), LoadOptions::new().files(FileAccess::Read));
    let loaded = loaded.map_err(|error| {
        format!(
            "{}: {}",
            model.display(),
            error.to_string().replace(&format!("{}/", staging.path.display()), "")
        )
    })?;
    if !loaded.unsupported().is_empty() {
        return Err(format!("{}: {}", model.display(), Error::Unsupported(loaded.unsupported().to_vec())));
    }
    let complete = Config::complete(given, name, Some(&loaded), &folder).map_err(|failure| failure.text)?;
    let mut pins = Vec::with_capacity(copied.len());
    for path in copied {
        let sum = digest(&staging.path.join(&path)).map_err(in_file(&path))?;
        let of = if path == Path::new(&file) { String::new() } else { format!("/{}", path.display()) };
        let key = quoted(&format!("{}{version}{of}", parameters::SHA256));
        pins.push(format!("parameters {{ key: {key} value {{ string_value: \"{sum}\" }} }}"));
    }
    if is_new {
        write_config(&entry, &text(&complete, &pins))?;
    }
    fs::rename(&staging.path, &target).map_err(in_file(&target))?;
    Ok(Added { name: name.to_string(), version, folder: target, configured: is_new, pins })
}

/// A folder that is removed unless it is renamed.
struct Staging {
    path: PathBuf,
}

impl Staging {
    fn new(entry: &Path) -> Result<Staging, String> {
        let path = entry.join(format!(".adding-{}", std::process::id()));
        fs::create_dir(&path).map_err(in_file(&path))?;
        Ok(Staging { path })
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path); // It is gone, if it was renamed.
    }
}

/// Copies the model, and the files that it names. Returns their paths in `target`.
fn copy(model: &Path, target: &Path, file: &str) -> Result<BTreeSet<PathBuf>, String> {
    let bytes = fs::read(model).map_err(in_file(model))?;
    fs::write(target.join(file), &bytes).map_err(in_file(target))?;
    let mut copied = BTreeSet::from([PathBuf::from(file)]);
    let source = model.parent().unwrap_or(Path::new(""));
    // What is about texts lies beside a model of tokens.
    for location in locations(&bytes).into_iter().chain(texts::FILES) {
        let location = Path::new(location);
        let inside = location
            .components()
            .all(|component| matches!(component, Component::Normal(_) | Component::CurDir));
        // A location that leads elsewhere, or to no file, is refused when the copy is loaded.
        if !inside || !source.join(location).is_file() || copied.contains(location) {
            continue;
        }
        let to = target.join(location);
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder).map_err(in_file(folder))?;
        }
        fs::copy(source.join(location), &to).map_err(in_file(&to))?;
        copied.insert(location.to_path_buf());
    }
    Ok(copied)
}

/// The texts that follow the key `location` in a message of keys and values, as external data has it. Other bytes may look the
/// same; those name no file.
fn locations(bytes: &[u8]) -> BTreeSet<&str> {
    const KEY: &[u8] = b"\x0a\x08location\x12";
    let mut found = BTreeSet::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(KEY.len()).position(|window| window == KEY) {
        rest = &rest[at + KEY.len()..];
        // A length of one or two bytes of seven bits: no path is longer.
        let length = match *rest {
            [low, ..] if low < 0x80 => Some((usize::from(low), 1)),
            [low, high, ..] if high < 0x80 => Some((usize::from(low & 0x7f) | usize::from(high) << 7, 2)),
            _ => None,
        };
        let text = length.and_then(|(length, start)| rest.get(start..start + length));
        found.extend(text.and_then(|text| std::str::from_utf8(text).ok()).filter(|text| !text.is_empty()));
    }
    found
}

/// A configuration for people, who may change it.
fn text(config: &Config, pins: &[String]) -> String {
    let mut text = format!(
        "# How the model '{}' is served. What is left out is taken from the ONNX file.\n",
        config.name
    );
    let shown = &config.shown;
    let inputs =
        shown.input.iter().map(|input| ("input", &input.name, input.data_type, &input.dims, input.optional));
    let outputs =
        shown.output.iter().map(|output| ("output", &output.name, output.data_type, &output.dims, false));
    if config.max_batch > 0 {
        text += "\n# The rows of a batch at most. The dims below are without the batch's.\n";
        line(&mut text, format_args!("max_batch_size: {}", config.max_batch));
    } else {
        text += "\n# Requests are not joined: the dims below are all that the ONNX file has.\nmax_batch_size: 0\n";
    }
    for (side, name, data_type, dims, optional) in inputs.chain(outputs) {
        let dims: Vec<String> = dims.iter().map(i64::to_string).collect();
        let data_type = DataType::try_from(data_type).map_or("", |data_type| data_type.as_str_name());
        let (name, dims) = (quoted(name), dims.join(", "));
        let optional = if optional { " optional: true" } else { "" };
        line(
            &mut text,
            format_args!("{side} {{ name: {name} data_type: {data_type} dims: [ {dims} ]{optional} }}"),
        );
    }
    if let Scheduling::Batched(_) = config.scheduling {
        text += "\n# A request waits so long for others to be run with.\n";
        text += "dynamic_batching { max_queue_delay_microseconds: 0 }\n";
    }
    text += "\n# Where the model runs, and how many runs are in flight: KIND_AUTO is the server's first device, KIND_GPU all of them, or\n\
             # those of gpus: [ 0, 1 ], and KIND_CPU the CPU reference.\n\
             instance_group { kind: KIND_AUTO count: 1 }\n\n\
             version_policy { latest { num_versions: 1 } }\n\n\
             # The server refuses files with other contents.\n";
    pins.iter().for_each(|pin| line(&mut text, format_args!("{pin}")));
    text
}

fn line(text: &mut String, line: std::fmt::Arguments) {
    let _ = writeln!(text, "{line}"); // A text takes all that is written.
}

/// The configuration as a file, if the server would read it as it is meant.
fn write_config(entry: &Path, text: &str) -> Result<(), String> {
    config::from_pbtxt(text).map_err(|failure| failure.text)?;
    let (path, partial) = (entry.join(PBTXT), entry.join(format!(".{PBTXT}-{}", std::process::id())));
    fs::write(&partial, text).map_err(in_file(&partial))?;
    fs::rename(&partial, &path).map_err(in_file(&path))
}

/// A text of protobuf's text form.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\0'..='\x1f' | '\x7f' => quoted += &format!("\\{:03o}", u32::from(character)),
            _ => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

fn in_file(path: &Path) -> impl Fn(std::io::Error) -> String {
    let path = path.display().to_string();
    move |error| format!("{path}: {error}")
}
