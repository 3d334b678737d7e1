//! Compiles the protobuf definitions: the Mesos v1 API with its JSON form, and the agent link when asked for.

#![allow(clippy::wildcard_enum_match_arm)] // protobuf has more kinds of fields than Mesos uses

#[path = "build/json.rs"]
mod json;
#[path = "build/required.rs"]
mod required;
#[path = "build/schema.rs"]
mod schema;

use std::path::PathBuf;

const PROTOS: [&str; 8] = ["mesos", "scheduler", "executor", "master", "agent", "allocator", "maintenance", "quota"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=build");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let protos: Vec<String> = PROTOS.iter().map(|name| format!("proto/mesos/v1/{name}.proto")).collect();
    let mut config = prost_build::Config::new();
    config.compile_well_known_types().btree_map(["."]).include_file("mesos.rs");
    for (proto, rust) in schema::OURS {
        config.extern_path(proto, rust);
    }
    // A secret must not reach a log through somebody's Debug: written by hand in src/v1/secret.rs.
    config.skip_debug([".mesos.v1.Credential", ".mesos.v1.Secret.Value"]);
    let descriptors = config.load_fds(&protos, &["proto"])?;
    let schema = schema::Schema::new(&descriptors);
    for path in schema.boxed_paths() {
        config.boxed(path);
    }
    config.compile_fds(schema::without_deprecations(&descriptors))?;
    std::fs::write(out.join("mesos_json.rs"), json::generate(&schema))?;
    std::fs::write(out.join("mesos_required.rs"), required::generate(&schema))?;

    #[cfg(feature = "link")]
    {
        let mut link = tonic_prost_build::configure();
        for (proto, rust) in schema::OURS {
            link = link.extern_path(proto, rust);
        }
        link.extern_path(".mesos.v1", "crate::v1").compile_protos(&["proto/link.proto"], &["proto"])?;
    }
    Ok(())
}
