//! The table of annotations in the guide is the one that the code reads by. `UPDATE_GOLDEN=1` writes it anew.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::Path;

use nave_agent_core::annotations;

const BEGIN: &str = "<!-- begin: rendered from the code -->\n";
const END: &str = "<!-- end -->";

#[test]
fn the_guide_lists_every_annotation_and_what_it_accepts() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/services.md");
    let text = fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the guide has a place for the table");
    let (table, after) = rest.split_once(END).expect("the table has an end");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, format!("{before}{BEGIN}{}{END}{after}", annotations::document())).unwrap();
        return;
    }
    assert_eq!(table, annotations::document(), "UPDATE_GOLDEN=1 writes it anew");
}
