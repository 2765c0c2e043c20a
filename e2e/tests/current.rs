//! Holds the chart's CRDs against the types in api/. `UPDATE_GENERATED=1` writes them anew, which is what `cargo xtask gen` does.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::path::PathBuf;

const HEAD: &str = "# Rendered from api/ by `cargo xtask gen`.\n";

#[test]
fn the_charts_crds_are_what_the_types_say() {
    let dir = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/manager/crds"));
    let rendered: BTreeMap<String, String> = nave_api::crds()
        .iter()
        .map(|kind| {
            (
                format!("{}.yaml", kind.metadata.name.as_deref().unwrap()),
                HEAD.to_owned() + &serde_saphyr::to_string(kind).unwrap(),
            )
        })
        .collect();
    std::fs::create_dir_all(&dir).unwrap();
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        std::fs::remove_dir_all(&dir).unwrap();
        std::fs::create_dir_all(&dir).unwrap();
        for (name, text) in &rendered {
            std::fs::write(dir.join(name), text).unwrap();
        }
    }
    let entries = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
    let present: BTreeMap<String, String> = entries
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(&path).unwrap()))
        .collect();
    assert!(present == rendered, "charts/manager/crds is not what api/ says: run `cargo xtask gen`");
}
