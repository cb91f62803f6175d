//! `seeds DIR`: small files to begin fuzzing with, in a folder for each target, and `dictionary`, the words of such files.

use std::collections::BTreeSet;
use std::path::Path;

use sardonyx::internals::seeds::seeds;

fn main() -> std::io::Result<()> {
    let dir = std::env::args().nth(1).expect("the folder to write to");
    let dir = Path::new(&dir);
    let write = |target: &str, name: &str, bytes: &[u8]| {
        std::fs::create_dir_all(dir.join(target))?;
        std::fs::write(dir.join(target).join(name), bytes)
    };
    let mut words = BTreeSet::new();
    for seed in seeds(4) {
        for target in ["import", "plan", "reference"] {
            write(target, &seed.name, &seed.model)?;
        }
        write("text", &seed.name, seed.text.as_bytes())?;
        words.extend(words_of(&seed.text));
    }
    let quoted = words.iter().map(|word| format!("\"{word}\"\n")).collect::<String>();
    std::fs::write(dir.join("dictionary"), quoted)
}

/// The names of operators and attributes in a graph's text.
fn words_of(text: &str) -> impl Iterator<Item = String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.len() > 2 && word.starts_with(|c: char| c.is_ascii_alphabetic())).map(Into::into)
}
