//! The image's own tree around drivers and agent: mount points, the few files a static program looks for, and who we
//! are.

use crate::deb::Package;
use anyhow::{Result, ensure};
use initramfs::Manifest;

/// The agent's place; `/init` and modprobe are links to it.
pub(crate) const AGENT: &str = "usr/bin/mesolith-agent";

/// The trust anchors for what the agent fetches by HTTPS.
pub(crate) const CERTIFICATES: &str = "etc/ssl/certs/ca-certificates.crt";

const PASSWD: &str = "root:x:0:0:root:/root:/usr/bin/mesolith-agent\nnobody:x:65534:65534:nobody:/:/bin/false\n";
const GROUP: &str = "root:x:0:\nnogroup:x:65534:\n";
const HOSTS: &str = "127.0.0.1 localhost\n::1 localhost ip6-localhost\n";
const NSSWITCH: &str = "passwd: files\ngroup: files\nhosts: files dns\n";

/// What the image says about itself in `/etc/mesolith/release`.
#[derive(serde::Serialize)]
pub(crate) struct Release<'a> {
    /// The image's version.
    pub(crate) version: &'a str,
    /// Its build time: no clock of a node is earlier.
    pub(crate) build_time_unix: u32,
    /// The kernel release.
    pub(crate) kernel: &'a str,
}

/// Puts everything but drivers, firmware and task root into a manifest.
pub(crate) fn add(
    manifest: &mut Manifest<'_>,
    agent: Vec<u8>,
    certificates: &Package,
    release: &Release<'_>,
) -> Result<()> {
    manifest.file(AGENT, 0o755, agent)?;
    manifest.symlink("init", &format!("/{AGENT}"))?;
    // The kernel's request_module runs /sbin/modprobe: drivers' file systems, ciphers and protocols load by it.
    manifest.symlink("usr/sbin/modprobe", &format!("/{AGENT}"))?;
    for (link, target) in [("bin", "usr/bin"), ("sbin", "usr/sbin"), ("lib", "usr/lib")] {
        manifest.symlink(link, target)?;
    }
    // Until PID 1 mounts devtmpfs, these are all the devices there are; without a console it would be mute.
    manifest.char_device("dev/console", 0o600, 5, 1)?;
    manifest.char_device("dev/null", 0o666, 1, 3)?;
    for (directory, permissions) in [
        ("mnt", 0o755),
        ("proc", 0o555),
        ("root", 0o700),
        ("run", 0o755),
        ("sys", 0o555),
        ("tmp", 0o1777),
        ("var", 0o755),
    ] {
        manifest.directory(directory, permissions)?;
    }
    for (path, text) in [("passwd", PASSWD), ("group", GROUP), ("hosts", HOSTS), ("nsswitch.conf", NSSWITCH)] {
        manifest.file(&format!("etc/{path}"), 0o644, text.as_bytes())?;
    }
    let os_release =
        format!("ID=mesolith\nNAME=Mesolith\nPRETTY_NAME=\"Mesolith {0}\"\nVERSION_ID={0}\n", release.version);
    manifest.file("etc/os-release", 0o644, os_release.into_bytes())?;
    let mut about = serde_json::to_vec(release)?;
    about.push(b'\n');
    manifest.file("etc/mesolith/release", 0o644, about)?;
    manifest.file(CERTIFICATES, 0o644, bundle(certificates)?)?;
    Ok(())
}

/// All certificates of the package in one file, in the order of their names.
fn bundle(package: &Package) -> Result<Vec<u8>> {
    let mut bundle = Vec::new();
    let is_certificate = |path: &str| path.starts_with("usr/share/ca-certificates/") && path.ends_with(".crt");
    for (path, text) in package.files().filter(|(path, _)| is_certificate(path)) {
        ensure!(text.starts_with(b"-----BEGIN CERTIFICATE-----"), "{path} is not a PEM certificate");
        bundle.extend_from_slice(text);
        if !text.ends_with(b"\n") {
            bundle.push(b'\n');
        }
    }
    ensure!(!bundle.is_empty(), "the certificates package has no usr/share/ca-certificates/**.crt");
    Ok(bundle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deb::tests::deb;
    use initramfs::EntryKind;

    const RELEASE: Release<'_> = Release { version: "1.2.3", build_time_unix: 7, kernel: "6.1" };

    #[test]
    fn init_and_modprobe_are_the_agent() {
        let certificates: &[(&str, &[u8])] = &[
            ("usr/share/ca-certificates/mozilla/B.crt", b"-----BEGIN CERTIFICATE-----\nb"),
            ("usr/share/ca-certificates/mozilla/A.crt", b"-----BEGIN CERTIFICATE-----\na\n"),
            ("usr/share/doc/x.crt", b"other"),
        ];
        let mut manifest = Manifest::new();
        add(&mut manifest, b"elf".to_vec(), &Package::unpack(&deb(certificates)).unwrap(), &RELEASE).unwrap();
        let agent = EntryKind::Symlink("/usr/bin/mesolith-agent".into());
        assert_eq!(manifest.get("init").unwrap().kind, agent);
        assert_eq!(manifest.get("usr/sbin/modprobe").unwrap().kind, agent);
        assert_eq!(manifest.get("dev/console").unwrap().kind, EntryKind::CharDevice { major: 5, minor: 1 });
        let text = |path| str::from_utf8(manifest.get(path).unwrap().content()).unwrap();
        assert_eq!(text(CERTIFICATES), "-----BEGIN CERTIFICATE-----\na\n-----BEGIN CERTIFICATE-----\nb\n");
        assert_eq!(text("etc/mesolith/release"), "{\"version\":\"1.2.3\",\"build_time_unix\":7,\"kernel\":\"6.1\"}\n");
    }

    #[test]
    fn a_package_without_certificates_is_refused() {
        let empty = Package::unpack(&deb(&[("a", b"")])).unwrap();
        assert!(bundle(&empty).is_err());
        let wrong = Package::unpack(&deb(&[("usr/share/ca-certificates/a.crt", b"DER")])).unwrap();
        assert!(bundle(&wrong).unwrap_err().to_string().contains("a.crt is not a PEM"));
    }
}
