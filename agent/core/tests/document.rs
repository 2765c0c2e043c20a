//! The tables of annotations in the guide are those that the code reads by. `UPDATE_GOLDEN=1` writes it anew.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::Path;

use nave_agent_core::annotations;

const END: &str = "<!-- end -->";

#[test]
fn the_guide_lists_every_annotation_and_what_becomes_of_it() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/services.md");
    for (name, table) in annotations::documents() {
        let text = fs::read_to_string(&path).unwrap();
        let begin = format!("<!-- begin: {name}, rendered from the code -->\n");
        let (before, rest) = text.split_once(&begin).expect("the guide has a place for the table");
        let (present, after) = rest.split_once(END).expect("the table has an end");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&path, format!("{before}{begin}{table}{END}{after}")).unwrap();
        } else {
            assert_eq!(present, table, "UPDATE_GOLDEN=1 writes it anew");
        }
    }
}
