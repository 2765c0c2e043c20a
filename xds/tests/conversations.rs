//! Conversations as transcripts: what changes, what the client says, and what the server answers and reports, line by
//! line. Each file under `conversations/` is one behaviour; its first lines say which. The lines of the server and of
//! the reports are compared with what really happens; `UPDATE_GOLDEN=1` writes them anew.
//!
//! ```text
//! change put cluster a 1; drop listener tcp/192.0.2.1/80; put listener tcp/192.0.2.2/80 1 -> a
//! keep listener tcp/192.0.2.1/80 cluster tenant-a/web/*
//! client cluster subscribe * holds b=1 ack 3
//! client listener nack 4 the reason, to the end of the line
//! wait 1s
//! reconnect
//! ```

#[cfg(test)]
mod support;

use std::collections::BTreeMap;
use std::path::Path;

use support::conversation::{Delta, Dialect, Sotw, converse};

#[cfg(test)]
fn check<D: Dialect>(directory: &str) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conversations").join(directory);
    let mut wrong = BTreeMap::new();
    for file in std::fs::read_dir(directory).expect("conversations") {
        let path = file.expect("a file").path();
        let written = std::fs::read_to_string(&path).expect("text");
        let happened = converse::<D>(&written);
        if written == happened {
            continue;
        }
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, happened).expect("writes");
        } else {
            wrong.insert(path, happened);
        }
    }
    for (path, happened) in &wrong {
        eprintln!("{} is not what happens, which is:\n{happened}", path.display());
    }
    assert!(wrong.is_empty(), "conversations went another way: {:?}", wrong.keys());
}

#[test]
fn delta_streams_go_as_written() {
    check::<Delta>("delta");
}

#[test]
fn state_of_the_world_streams_go_as_written() {
    check::<Sotw>("sotw");
}
