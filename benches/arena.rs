//! How tightly the arena is packed: `cargo bench --bench arena -- [FOLDER]`. The folder holds instances as CSV files with the
//! columns `id`, `lower`, `upper` and `size`: the half-open range of steps in which a block is alive, and its bytes. Google's
//! MiniMalloc publishes eleven (`benchmarks/challenging`). Without a folder, rectangles are cut up here. No device is used.

#![allow(clippy::unwrap_used)] // A benchmark that cannot go on has failed.

use std::path::{Path, PathBuf};

use sardonyx::internals::packing::{Lifetime, PLAN_WORK, cut_up, place_within};
use sardonyx_testing::clock::cpu_time;

/// What planning may do, and twenty times as much.
const WORK: [usize; 2] = [PLAN_WORK, 20 * PLAN_WORK];

fn main() {
    let folder = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let instances = folder.map_or_else(rectangles, |folder| files(Path::new(&folder)));
    print!("| instance | blocks |");
    WORK.iter().for_each(|work| print!(" work {work}: of the bound | CPU s |"));
    println!("\n|---|---|{}", "---|---|".repeat(WORK.len()));
    for (name, blocks) in instances {
        print!("| {name} | {} |", blocks.len());
        for work in WORK {
            let start = cpu_time(true);
            let placement = place_within(&blocks, 1, work);
            let seconds = (cpu_time(true) - start).as_secs_f64();
            print!(" {:.4} | {seconds:.2} |", placement.height as f64 / placement.max_live as f64);
        }
        println!();
    }
}

/// Rectangles that can be packed perfectly.
fn rectangles() -> Vec<(String, Vec<Lifetime>)> {
    let rectangle = |(pinwheels, count)| {
        let cuts = if pinwheels { "pinwheels" } else { "straight cuts" };
        (cuts.to_string(), cut_up(count, 1, 512, pinwheels))
    };
    [(false, 200), (false, 450), (true, 200), (true, 450), (true, 1000)].map(rectangle).into()
}

fn files(folder: &Path) -> Vec<(String, Vec<Lifetime>)> {
    let entries = folder.read_dir().unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|e| e == "csv")).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.file_stem().unwrap().display().to_string(), read(&path))).collect()
}

fn read(path: &Path) -> Vec<Lifetime> {
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let head: Vec<&str> = lines.next().unwrap().split(',').map(str::trim).collect();
    let column = |name| head.iter().position(|head| *head == name).unwrap();
    let [lower, upper, size] = ["lower", "upper", "size"].map(column);
    let block = |line: &str| {
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        Lifetime {
            start: fields[lower].parse().unwrap(),
            end: fields[upper].parse().unwrap(),
            size: fields[size].parse().unwrap(),
        }
    };
    lines.map(block).collect()
}
