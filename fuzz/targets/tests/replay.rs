//! The corpus, what was once found, and a bounded number of seeded changes of both, run through
//! the fuzz targets without a fuzzer. `cargo xtask fuzz` goes on from the same corpus.

use std::fs;
use std::path::PathBuf;

use fastrand::Rng;
use fuzz_targets::{TARGETS, Target};

/// Changed inputs of a target. A schedule of the session takes a thousand times as long, and
/// so does everything under Miri.
fn changes(name: &str) -> usize {
    if name == "session" || cfg!(miri) { 40 } else { 4_000 }
}

/// What stands in a folder of a target, sorted by name.
fn inputs(folder: &str, target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(folder)
        .join(target);
    let Ok(entries) = fs::read_dir(path) else {
        return Vec::new();
    };
    let paths = entries.map(|entry| entry.expect("a folder lists what it has").path());
    let mut inputs: Vec<_> = paths
        .map(|path| (path.clone(), fs::read(path).expect("a file reads")))
        .collect();
    inputs.sort();
    inputs
}

fn change(bytes: &mut Vec<u8>, other: &[u8], random: &mut Rng) {
    let at = random.usize(..=bytes.len());
    match random.u8(..5) {
        0 => bytes.truncate(at),
        1 => bytes.insert(at, random.u8(..)),
        2 if at < bytes.len() => bytes[at] ^= 1 << random.u8(..8),
        3 if at < bytes.len() => drop(bytes.remove(at)),
        _ => {
            bytes.truncate(at);
            bytes.extend_from_slice(&other[random.usize(..=other.len())..]);
        }
    }
}

fn replay((name, run): Target) {
    let corpus = inputs("corpus", name);
    assert!(corpus.len() >= 4, "{name} has no corpus");
    let regressions = inputs("regressions", name);
    for (path, bytes) in corpus.iter().chain(&regressions) {
        println!("{}", path.display());
        run(bytes);
    }
    let mut random = Rng::with_seed(0);
    for number in 0..changes(name) {
        let mut bytes = corpus[random.usize(..corpus.len())].1.clone();
        for _ in 0..random.usize(1..4) {
            let other = &corpus[random.usize(..corpus.len())].1;
            change(&mut bytes, other, &mut random);
        }
        // Shown only if it fails.
        println!("change {number}: {}", bytes.escape_ascii());
        run(&bytes);
    }
}

fn target(name: &str) -> Target {
    *TARGETS
        .iter()
        .find(|(known, _)| *known == name)
        .expect("a target of this name")
}

macro_rules! replayed {
    ($($name:ident),*) => {
        $(#[test]
        fn $name() {
            replay(target(stringify!($name)));
        })*

        #[test]
        fn every_target_is_replayed() {
            assert_eq!(TARGETS.map(|(name, _)| name), [$(stringify!($name)),*]);
        }
    };
}

replayed!(codec, config, dedupe, envelope, screen, session, topics);
