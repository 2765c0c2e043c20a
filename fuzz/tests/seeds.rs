//! Every seed, once, without a fuzzer. Knows where seeds are; knows no property.

use std::fs;
use std::path::Path;

#[test]
fn every_target_has_seeds_and_they_hold() {
    for target in nave_fuzz::TARGETS {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
        let seeds: Vec<_> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(!seeds.is_empty(), "{} has no seeds", target.name);
        for seed in seeds {
            (target.run)(&fs::read(&seed).unwrap());
        }
    }
}
