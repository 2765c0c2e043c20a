//! Holds the committed code against the .proto files. `UPDATE_GENERATED=1` writes it anew, which is what `cargo xtask gen` does.

#![allow(clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};

#[test]
fn the_generated_code_is_current() {
    let committed = root().join("src/generated/nave.fleet.v1.rs");
    let rendered = render();
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        std::fs::write(&committed, rendered).expect("the generated file can be written");
        return;
    }
    let present = std::fs::read_to_string(&committed).unwrap_or_default();
    assert!(present == rendered, "proto/src/generated is not what the .proto files say: run `cargo xtask gen`");
}

fn render() -> String {
    let out = tempfile::tempdir().expect("a private directory");
    let descriptors =
        protox::compile(["nave/fleet/v1/fleet.proto"], [root().join("proto")]).expect("the .proto compiles");
    tonic_prost_build::configure()
        .out_dir(out.path())
        .build_client(true)
        .build_server(true)
        .compile_fds(descriptors)
        .expect("code is rendered");
    std::fs::read_to_string(out.path().join("nave.fleet.v1.rs")).expect("the rendered file is there")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}
