//! The whole server image, built twice under different circumstances, is the same to the byte.

#![allow(clippy::unwrap_used)] // a panic is how a test fails, in its parts too

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use tests::rack::{Programs, repository};

const ARTEFACTS: [&str; 4] = ["vmlinuz", "initramfs.img", "manifest.json", "SIZES"];

#[test]
fn the_server_image_is_the_same_bytes_whoever_builds_it_where_and_when() {
    let programs = Programs::find().unwrap();
    for program in [&programs.image, &programs.agent] {
        assert!(program.exists(), "{} does not exist: build it first", program.display());
    }
    let root = tempfile::tempdir().unwrap();
    // The packages come from where `./dev image` keeps them: what is pinned is their hash, not the way here.
    let cache = repository().join(".cache/packages");
    let first = root.path().join("first");
    let second = root.path().join("somewhere/else entirely/second");
    let builds = [
        (&first, "022", "UTC", "C", Duration::ZERO, 0o755),
        // Another umask, time zone and language; an agent that is ten years older, in another file mode.
        (&second, "077", "Pacific/Kiritimati", "tr_TR.UTF-8", Duration::from_secs(10 * 365 * 86_400), 0o700),
    ];
    for (dir, umask, zone, language, age, mode) in builds {
        let began = Instant::now();
        fs::create_dir_all(dir).unwrap();
        let agent = dir.join("the agent");
        fs::copy(&programs.agent, &agent).unwrap();
        fs::set_permissions(&agent, fs::Permissions::from_mode(mode)).unwrap();
        let file = fs::File::options().append(true).open(&agent).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
        drop(file);
        let script = r#"umask "$1"; shift; exec "$@""#;
        let output = Command::new("sh")
            .args(["-c", script, "sh", umask])
            .arg(&programs.image)
            .args(["pxe", "--modules", "server", "--agent"])
            .arg(&agent)
            .arg("--out")
            .arg(dir.join("out"))
            .arg("--lock")
            .arg(repository().join("image/packages.lock"))
            .arg("--cache")
            .arg(&cache)
            .current_dir(dir)
            .env("TZ", zone)
            .env("LANG", language)
            .env("LC_ALL", language)
            .env("HOME", dir)
            .env_remove("SOURCE_DATE_EPOCH")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        println!("built in {:.1} s with umask {umask} in {}", began.elapsed().as_secs_f32(), dir.display());
    }
    for name in ARTEFACTS {
        let (a, b) =
            (fs::read(first.join("out").join(name)).unwrap(), fs::read(second.join("out").join(name)).unwrap());
        let differs = a.iter().zip(&b).position(|(x, y)| x != y);
        assert!(a == b, "{name} differs ({} and {} bytes, first at {differs:?})", a.len(), b.len());
        println!("{name}: {} bytes, sha256 {}", a.len(), sha256(&first.join("out").join(name)));
    }
}

fn sha256(file: &Path) -> String {
    let output = Command::new("sha256sum").arg(file).output().unwrap();
    assert!(output.status.success());
    String::from_utf8_lossy(&output.stdout).split(' ').next().unwrap().trim_start_matches('\\').to_owned()
}
