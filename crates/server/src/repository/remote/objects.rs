//! What a store has of each model, by which changes are seen.

use std::collections::{BTreeMap, BTreeSet};

use object_store::ObjectMeta;
use object_store::path::Path;
use serde::{Deserialize, Serialize};

use crate::config::check_name;

/// The file in a mirrored folder that says which objects its files are.
pub(super) const MANIFEST: &str = ".objects.json";

/// The letters of a file's name at most.
const LONGEST: usize = 255;

/// An object, as a listing tells of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Object {
    pub(super) size: u64,
    pub(super) e_tag: Option<String>,
    /// Microseconds since 1970.
    modified: i64,
}

/// The objects of a model by their paths below the model's.
pub(super) type Objects = BTreeMap<String, Object>;

/// The objects of each model, or why they can be no files.
pub(super) type Models = BTreeMap<String, Result<Objects, String>>;

impl Object {
    pub(super) fn of(meta: &ObjectMeta) -> Object {
        Object { size: meta.size, e_tag: meta.e_tag.clone(), modified: meta.last_modified.timestamp_micros() }
    }

    /// Whether the contents are those of `other`: a tag follows from them, and a time does not.
    pub(super) fn is(&self, other: &Object) -> bool {
        self.size == other.size
            && match (&self.e_tag, &other.e_tag) {
                (Some(tag), Some(other)) => tag == other,
                _ => self.modified == other.modified,
            }
    }
}

/// Whether all objects are those of `other`.
pub(super) fn are_equal(objects: &Objects, other: &Objects) -> bool {
    objects.len() == other.len()
        && objects.iter().all(|(path, object)| other.get(path).is_some_and(|other| object.is(other)))
}

/// The bytes of all objects.
pub(super) fn bytes(objects: &Objects) -> u64 {
    objects.values().fold(0, |bytes, object| bytes.saturating_add(object.size))
}

/// Whether an object stands for the folder of a version, which a console makes and which has no files: that of an ensemble.
pub(super) fn is_version(path: &str, object: &Object) -> bool {
    object.size == 0 && path.parse::<u64>().is_ok_and(|version| version.to_string() == path)
}

/// The objects below `prefix`, by models. What lies beside the models, or in folders whose names are none of models, is left out, as it
/// is in a folder on a disk.
pub(super) fn by_model(prefix: &Path, listed: &[ObjectMeta]) -> Models {
    let mut models = Models::new();
    for meta in listed {
        let location = meta.location.as_ref();
        let path = match prefix.as_ref() {
            "" => Some(location),
            prefix => location.strip_prefix(prefix).and_then(|path| path.strip_prefix('/')),
        };
        let Some((name, path)) = path.and_then(|path| path.split_once('/')) else { continue };
        if check_name(name).is_err() || name.starts_with('.') {
            continue;
        }
        let model = models.entry(name.to_string()).or_insert_with(|| Ok(Objects::new()));
        match (check(path), &mut *model) {
            (Ok(()), Ok(objects)) => drop(objects.insert(path.to_string(), Object::of(meta))),
            (Err(what), model) => *model = Err(format!("{}: {what}", path.escape_debug())),
            (Ok(()), Err(_)) => {}
        }
    }
    for model in models.values_mut() {
        if let Ok(objects) = model
            && let Err(what) = without_folders(objects)
        {
            *model = Err(what);
        }
    }
    models
}

/// Refuses a path that is none of a file below the model's folder.
fn check(path: &str) -> Result<(), &'static str> {
    for part in path.split('/') {
        let leads_elsewhere = matches!(part, "" | "." | "..") || part.contains(['\\', '\0']);
        if leads_elsewhere || (cfg!(windows) && part.contains(':')) {
            return Err("the key would lead out of the model's folder; remove the object");
        }
        if part.len() > LONGEST || part.chars().any(char::is_control) {
            return Err("no file has such a name; rename the object");
        }
        if part == MANIFEST {
            return Err("the server keeps a file of its own with this name; rename the object");
        }
    }
    Ok(())
}

/// Leaves out the empty objects that consoles make for folders.
fn without_folders(objects: &mut Objects) -> Result<(), String> {
    let above =
        |path: &String| path.rmatch_indices('/').map(|(at, _)| path[..at].to_string()).collect::<Vec<_>>();
    let folders: BTreeSet<String> = objects.keys().flat_map(above).collect();
    if let Some((path, _)) = objects.iter().find(|(path, object)| folders.contains(*path) && object.size > 0)
    {
        return Err(format!(
            "{path}: there is an object of this name, and there are objects below it; remove the one"
        ));
    }
    objects.retain(|path, _| !folders.contains(path));
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test that cannot go on has failed.
mod tests {
    use super::*;

    fn meta(location: &str, size: u64) -> ObjectMeta {
        let location = Path::parse(location).unwrap();
        ObjectMeta { location, last_modified: Default::default(), size, e_tag: None, version: None }
    }

    #[test]
    fn objects_are_sorted_by_models() {
        let listed = [
            meta("all/readme.md", 3),
            meta("all/.git/config", 3),
            meta("all/a b/1/model.onnx", 3),
            meta("all/cat", 0),
            meta("all/cat/1", 0),
            meta("all/cat/1/model.onnx", 5),
            meta("all/cat/config.pbtxt", 2),
            meta("all/both/1", 0),
            meta("all/both/2", 7),
            meta("all/both/2/model.onnx", 7),
            meta("all/ens/1", 0),
            meta("all/own/.objects.json", 1),
            meta("all/long/1/x\\..\\y", 1),
            meta("other/dog/1/model.onnx", 5),
        ];
        let models = by_model(&Path::from("all"), &listed);
        assert_eq!(models.keys().collect::<Vec<_>>(), ["both", "cat", "ens", "long", "own"]);
        let cat = models["cat"].as_ref().unwrap();
        assert_eq!(cat.keys().collect::<Vec<_>>(), ["1/model.onnx", "config.pbtxt"]);
        assert_eq!(bytes(cat), 7);
        let ens = models["ens"].as_ref().unwrap();
        assert!(
            is_version("1", &ens["1"])
                && !is_version("01", &ens["1"])
                && !is_version("1", &cat["1/model.onnx"])
        );
        for (name, part) in [("both", "2: there is an object"), ("own", "of its own"), ("long", "lead out")] {
            let what = models[name].as_ref().unwrap_err();
            assert!(what.contains(part), "{what}");
        }
        assert_eq!(by_model(&Path::default(), &listed)["other"].as_ref().unwrap().len(), 1);
        for path in ["../x", "a/../x", "/x", "a//x", "a\0", "a\nb", &"x".repeat(256)] {
            assert!(check(path).is_err(), "{path:?}");
        }
    }

    #[test]
    fn tags_tell_changes_and_times_do_where_there_are_none() {
        let object =
            |size, e_tag: Option<&str>, modified| Object { size, e_tag: e_tag.map(Into::into), modified };
        assert!(object(1, Some("a"), 1).is(&object(1, Some("a"), 2)));
        assert!(!object(1, Some("a"), 1).is(&object(1, Some("b"), 1)));
        assert!(!object(1, Some("a"), 1).is(&object(2, Some("a"), 1)));
        assert!(object(1, None, 1).is(&object(1, Some("a"), 1)));
        assert!(!object(1, None, 1).is(&object(1, None, 2)));
    }
}
