//! The SDK's bindings are generated once and committed, so that building a transform does not compile the generator.

use std::fs;
use std::path::Path;

use wit_bindgen_core::wit_parser::Resolve;
use wit_bindgen_core::{Files, WorldGenerator as _};
use wit_bindgen_rust::Opts;

#[test]
fn the_sdks_bindings_are_generated_from_its_wit() {
    let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guest-sdk/rust");
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(sdk.join("wit")).unwrap();
    let world = resolve.select_world(&[package], Some("transform")).unwrap();
    let options = Opts {
        format: true,
        pub_export_macro: true,
        export_macro_name: Some("__export_transform".to_owned()),
        ..Opts::default()
    };
    let mut files = Files::default();
    options.build().generate(&mut resolve, world, &mut files).unwrap();
    let (_, generated) = files.iter().next().unwrap();
    let generated = format!("// @generated from wit/transform.wit\n{}", String::from_utf8(generated.to_vec()).unwrap());
    let committed = sdk.join("src/bindings.rs");
    if std::env::var("TOLLGATE_GOLDEN").is_ok_and(|mode| mode == "update") {
        fs::write(&committed, &generated).unwrap();
    }
    assert!(
        fs::read_to_string(&committed).unwrap_or_default() == generated,
        "guest-sdk/rust/src/bindings.rs is out of date; TOLLGATE_GOLDEN=update cargo test -p tollgate-guests --test bindings writes it"
    );
}
