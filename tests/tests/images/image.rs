//! Images made here, of tar layers: nothing is fetched for them.

use std::collections::BTreeSet;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// A layer in the making.
#[derive(Default)]
pub(crate) struct Layer {
    tar: Vec<u8>,
}

/// A layer as it is pushed.
#[derive(Clone)]
pub(crate) struct Packed {
    pub(crate) bytes: Vec<u8>,
    pub(crate) digest: String,
    pub(crate) diff_id: String,
    pub(crate) media_type: &'static str,
}

/// An image as it is pushed.
pub(crate) struct Image {
    pub(crate) config: Vec<u8>,
    pub(crate) manifest: Vec<u8>,
    pub(crate) layers: Vec<Packed>,
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

impl Layer {
    fn entry(mut self, kind: u8, path: &str, mode: u32, link: &str, data: &[u8]) -> Self {
        let mut header = [0u8; 512];
        let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(0, path);
        put(100, &format!("{mode:07o}"));
        put(108, "0000000");
        put(116, "0000000");
        put(124, &format!("{:011o}", data.len()));
        put(136, "00000000000");
        put(148, "        ");
        put(157, link);
        put(257, "ustar\u{0}00");
        header[156] = kind;
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\u{0}").as_bytes());
        self.tar.extend_from_slice(&header);
        self.tar.extend_from_slice(data);
        self.tar.resize(self.tar.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn file(self, path: &str, mode: u32, data: &[u8]) -> Self {
        self.entry(b'0', path, mode, "", data)
    }

    pub(crate) fn link(self, path: &str, target: &str) -> Self {
        self.entry(b'2', path, 0o777, target, b"")
    }

    pub(crate) fn directory(self, path: &str, mode: u32) -> Self {
        self.entry(b'5', path, mode, "", b"")
    }

    fn plain(mut self) -> Vec<u8> {
        self.tar.resize(self.tar.len() + 1024, 0);
        self.tar
    }

    pub(crate) fn gzip(self) -> Packed {
        let plain = self.plain();
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&plain).unwrap();
        let bytes = encoder.finish().unwrap();
        Packed {
            digest: digest(&bytes),
            bytes,
            diff_id: digest(&plain),
            media_type: "application/vnd.docker.image.rootfs.diff.tar.gzip",
        }
    }

    pub(crate) fn zstd(self) -> Packed {
        let plain = self.plain();
        let bytes = zstd::encode_all(plain.as_slice(), 3).unwrap();
        let media_type = "application/vnd.oci.image.layer.v1.tar+zstd";
        Packed { digest: digest(&bytes), bytes, diff_id: digest(&plain), media_type }
    }
}

/// Bytes that cannot be compressed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed + 1;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// The busybox of the package busybox-static, with the programs the tests use.
pub(crate) fn busybox() -> Packed {
    let program = std::fs::read("/bin/busybox").expect("/bin/busybox of the package busybox-static");
    let mut layer = Layer::default().directory("bin/", 0o755).file("bin/busybox", 0o755, &program);
    let names: BTreeSet<&str> = "cat echo hostname id ls pwd sh sleep touch true wc".split(' ').collect();
    for name in names {
        layer = layer.link(&format!("bin/{name}"), "busybox");
    }
    layer
        .directory("etc/", 0o755)
        .file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/srv/app:/bin/sh\n")
        .file("etc/group", 0o644, b"root:x:0:\napp:x:1001:\nlogs:x:44:app\n")
        .file("etc/gone", 0o644, b"a later layer deletes it")
        .directory("tmp/", 0o1777)
        .gzip()
}

impl Image {
    /// Of these layers, the lowest first; `config` is what Docker calls so.
    pub(crate) fn of(layers: &[&Packed], config: &Value) -> Self {
        let layers: Vec<Packed> = layers.iter().map(|&layer| layer.clone()).collect();
        let diff_ids: Vec<&str> = layers.iter().map(|layer| layer.diff_id.as_str()).collect();
        let config = json!({"architecture": "amd64", "os": "linux", "config": config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        let config = config.to_string().into_bytes();
        let list: Vec<Value> = layers
            .iter()
            .map(|layer| json!({"mediaType": layer.media_type, "digest": layer.digest, "size": layer.bytes.len()}))
            .collect();
        let oci = layers.iter().any(|layer| layer.media_type.contains("oci"));
        let kinds = if oci {
            ["application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.config.v1+json"]
        } else {
            ["application/vnd.docker.distribution.manifest.v2+json", "application/vnd.docker.container.image.v1+json"]
        };
        let manifest = json!({"schemaVersion": 2, "mediaType": kinds[0], "layers": list,
            "config": {"mediaType": kinds[1], "digest": digest(&config), "size": config.len()}});
        Self { config, manifest: manifest.to_string().into_bytes(), layers }
    }

    pub(crate) fn media_type(&self) -> String {
        let manifest: Value = serde_json::from_slice(&self.manifest).unwrap();
        manifest["mediaType"].as_str().unwrap().to_owned()
    }
}
