//! Images as files: what `docker save` writes, old and new, and OCI layouts.

#![allow(clippy::unwrap_used)] // a panic is how a test fails, in its parts too

#[path = "fake/registry.rs"]
#[allow(dead_code)] // only its layers are needed here
mod registry;

use std::path::{Path, PathBuf};
use std::time::Duration;

use agent_images::unpack::Limits;
use agent_images::{Patience, Registries, Settings, Store};
use registry::{Layer, digest};
use serde_json::json;

fn store(directory: &Path) -> Store {
    Store::open(Settings {
        directory: directory.join("store"),
        limit_bytes: 1 << 30,
        layer: Limits { bytes: 1 << 20, entries: 100 },
        registries: Registries::default(),
        host_authorities: None,
        patience: Patience { pull: Duration::from_secs(10), ..Patience::default() },
    })
    .unwrap()
}

fn config(layers: &[Layer], cmd: &str) -> String {
    let diff_ids: Vec<&str> = layers.iter().map(|layer| layer.diff_id.as_str()).collect();
    json!({"architecture": "amd64", "os": "linux", "config": {"Cmd": [cmd]}, "rootfs": {"type": "layers", "diff_ids": diff_ids}})
        .to_string()
}

enum File<'a> {
    Data(&'a str, &'a [u8]),
    Link(&'a str, &'a str),
}

fn archive(path: &Path, files: &[File<'_>]) -> PathBuf {
    let mut tar = tar::Builder::new(std::fs::File::create(path).unwrap());
    for file in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        match file {
            File::Data(name, bytes) => {
                header.set_size(bytes.len() as u64);
                tar.append_data(&mut header, name, *bytes).unwrap();
            }
            File::Link(name, target) => {
                header.set_size(0);
                header.set_entry_type(tar::EntryType::Symlink);
                tar.append_link(&mut header, name, target).unwrap();
            }
        }
    }
    tar.into_inner().unwrap();
    path.to_owned()
}

#[test]
fn a_docker_archive_is_imported_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let layers = [Layer::of(&[("etc/passwd", b"app:x:7:8::/:\n")]), Layer::of(&[("b", b"b")])];
    let (one, two) = (config(&layers, "one"), config(&layers[..1], "two"));
    let manifest = json!([
        {"Config": "one.json", "RepoTags": ["lab/one:1"], "Layers": ["x/layer.tar", "y/layer.tar"]},
        {"Config": "two.json", "RepoTags": ["two:latest"], "Layers": ["x/layer.tar"]},
    ])
    .to_string();
    let path = archive(
        &dir.path().join("saved.tar"),
        &[
            File::Data("z/layer.tar", &layers[0].packed),
            File::Link("x/layer.tar", "../z/layer.tar"),
            File::Data("y/layer.tar", &layers[1].packed),
            File::Data("one.json", one.as_bytes()),
            File::Data("two.json", two.as_bytes()),
            File::Data("manifest.json", manifest.as_bytes()),
        ],
    );
    let store = store(dir.path());
    let pulled = store.import(&path, Some("lab/one:1"), "c").unwrap();
    assert_eq!((pulled.image.config.cmd, pulled.image.layers.len()), (vec!["one".to_owned()], 2));
    assert_eq!(pulled.accounts.find("app").unwrap().user.uid, 7);
    let pulled = store.import(&path, Some("docker.io/library/two"), "d").unwrap();
    assert_eq!(pulled.image.config.cmd, ["two"]);
    let error = store.import(&path, None, "e").unwrap_err().to_string();
    assert!(error.contains("it has 2 images"), "{error}");
}

#[test]
fn an_oci_layout_is_imported_and_checked() {
    let dir = tempfile::tempdir().unwrap();
    let layers = [Layer::of(&[("a", b"a")])];
    let config = config(&layers, "oci");
    let manifest = json!({"schemaVersion": 2,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(config.as_bytes()), "size": config.len()},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest(&layers[0].packed), "size": layers[0].packed.len()}]})
    .to_string();
    let index = json!({"schemaVersion": 2, "manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": digest(manifest.as_bytes()), "size": manifest.len(), "annotations": {"org.opencontainers.image.ref.name": "v1"}}]})
    .to_string();
    let blob = |bytes: &[u8]| format!("blobs/sha256/{}", &digest(bytes)["sha256:".len()..]);
    let write = |name: &str, config: &str, layer: &[u8]| {
        archive(
            &dir.path().join(name),
            &[
                File::Data("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#),
                File::Data("index.json", index.as_bytes()),
                File::Data(&blob(manifest.as_bytes()), manifest.as_bytes()),
                File::Data(&blob(self::config(&layers, "oci").as_bytes()), config.as_bytes()),
                File::Data(&blob(&layers[0].packed), layer),
            ],
        )
    };
    let store = store(dir.path());
    let bad = store.import(&write("bad.tar", &config.replace("oci", "ico"), &layers[0].packed), None, "c");
    let error = bad.unwrap_err().to_string();
    assert!(error.contains("is corrupt"), "{error}");
    let other = Layer::of(&[("other", b"")]);
    let bad = store.import(&write("bad.tar", &config, &other.packed), None, "c").unwrap_err().to_string();
    assert!(bad.contains("is corrupt"), "{bad}");
    let good = write("good.tar", &config, &layers[0].packed);
    let pulled = store.import(&good, Some("v1"), "c").unwrap();
    assert_eq!(pulled.image.digest, digest(manifest.as_bytes()));
    assert_eq!(pulled.image.config.cmd, ["oci"]);
    assert_eq!(store.content().layers, 1);
}

#[test]
fn what_is_no_image_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let import = |path: &Path| store.import(path, None, "c").unwrap_err().to_string();
    let none = archive(&dir.path().join("none.tar"), &[File::Data("readme", b"")]);
    assert!(import(&none).contains("neither a Docker archive"), "{}", import(&none));
    let manifest = br#"[{"Config":"../../../etc/passwd","Layers":[]}]"#;
    let outside = archive(&dir.path().join("outside.tar"), &[File::Data("manifest.json", manifest)]);
    assert!(import(&outside).contains("it lacks"), "{}", import(&outside));
    let text = dir.path().join("text");
    std::fs::write(&text, "x".repeat(2000)).unwrap();
    assert!(import(&text).contains("cannot be read"), "{}", import(&text));
    assert!(import(&dir.path().join("missing")).contains("cannot be read"));
}
