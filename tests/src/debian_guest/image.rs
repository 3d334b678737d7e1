//! The guest's root file system: made once by `mmdebstrap`, without a boot loader and without loop devices, and kept.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::fcntl::{Flock, FlockArg};

use crate::rack::repository;

/// Debian 12: the oldest release hosted mode is for.
const SUITE: &str = "bookworm";

/// The cloud kernel has the NVMe driver and ext4 built in: it needs no initramfs to find its root. The second line is what
/// tests of containers make disks and networks with.
const PACKAGES: &str = "systemd,systemd-sysv,dbus,udev,kmod,linux-image-cloud-amd64,\
    containernetworking-plugins,e2fsprogs,iproute2,iptables,xfsprogs";

const WANTS: &str = "etc/systemd/system/multi-user.target.wants";

/// Added to what the packages bring.
const FILES: &[(&str, &str)] = &[
    ("etc/hostname", "debian\n"),
    (
        "etc/systemd/network/10-lan.network",
        "[Match]\nType=ether\n[Network]\nAddress=10.0.2.15/24\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n",
    ),
    (
        "etc/systemd/system/harness.service",
        "[Unit]\nDescription=Root shell on the second serial line\n\
         [Service]\nExecStart=/bin/bash /usr/local/sbin/harness\nStandardInput=tty\nStandardOutput=tty\n\
         TTYPath=/dev/ttyS1\nEnvironment=HOME=/root SYSTEMD_PAGER=cat\nWorkingDirectory=/root\n",
    ),
    (
        "usr/local/sbin/harness",
        "stty raw -echo\n\
         printf '\\n@@ ready\\n'\n\
         while IFS= read -r line; do\n\
         (eval \"$line\") </dev/null >/run/harness.out 2>&1\n\
         status=$?\n\
         cat /run/harness.out\n\
         printf '\\n@@ status %s\\n' $status\n\
         done\n",
    ),
];

/// Units that start at boot: the link in `multi-user.target.wants`, and what it points to.
const ENABLED: &[(&str, &str)] = &[
    ("harness.service", "/etc/systemd/system/harness.service"),
    ("systemd-networkd.service", "/lib/systemd/system/systemd-networkd.service"),
];

/// A hook gets the tree as $1 and runs where its owners are what they seem. The tree still has /proc and the like mounted
/// on it; a bind mount shows it without them, and is gone with its mount namespace.
const FINISH: &str = r#"unshare --mount sh -ec '
cp -r --preserve=mode,links --no-target-directory "$MESOLITH_OUT/overlay" "$1"
cp --no-target-directory "$1"/boot/vmlinuz-* "$MESOLITH_OUT/vmlinuz"
mkdir "$MESOLITH_OUT/tree"
mount --bind "$1" "$MESOLITH_OUT/tree"
truncate -s 1500M "$MESOLITH_OUT/root.img"
/sbin/mke2fs -q -F -t ext4 -d "$MESOLITH_OUT/tree" "$MESOLITH_OUT/root.img"
' sh "$1""#;

/// A kernel and a root file system.
pub(super) struct Image {
    pub(super) kernel: PathBuf,
    pub(super) root: PathBuf,
}

/// The image below `.cache/`, made now if it is not there or made by another recipe.
pub(super) fn cached() -> Result<Image> {
    let cache = repository().join(".cache");
    fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
    let lock = OpenOptions::new().create(true).append(true).open(cache.join("debian-guest.lock"))?;
    let _lock = Flock::lock(lock, FlockArg::LockExclusive)
        .map_err(|(_, errno)| errno)
        .context("cannot wait for whoever makes the Debian guest")?;
    let dir = cache.join("debian-guest");
    let image = Image { kernel: dir.join("vmlinuz"), root: dir.join("root.img") };
    let recipe = format!("{SUITE}\n{PACKAGES}\n{FINISH}\n{FILES:?}\n{ENABLED:?}\n");
    if fs::read_to_string(dir.join("recipe")).is_ok_and(|made_by| made_by == recipe) {
        return Ok(image);
    }
    let fresh = cache.join("debian-guest.new");
    for old in [&fresh, &dir] {
        if old.exists() {
            fs::remove_dir_all(old).with_context(|| format!("cannot remove {}", old.display()))?;
        }
    }
    make(&fresh)?;
    fs::write(fresh.join("recipe"), recipe)?;
    fs::rename(&fresh, &dir).with_context(|| format!("cannot keep {}", dir.display()))?;
    Ok(image)
}

fn make(dir: &Path) -> Result<()> {
    let overlay = dir.join("overlay");
    for (path, text) in FILES {
        let path = overlay.join(path);
        fs::create_dir_all(path.parent().context("each file of the guest lies in a directory")?)?;
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    fs::create_dir_all(overlay.join(WANTS))?;
    for (unit, target) in ENABLED {
        symlink(target, overlay.join(WANTS).join(unit)).with_context(|| format!("cannot enable {unit}"))?;
    }
    let output = Command::new("mmdebstrap")
        .args(["--variant=minbase", "--format=null", &format!("--include={PACKAGES}")])
        .args(["--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*"])
        .args(["--dpkgopt=path-exclude=/usr/share/locale/*"])
        .arg(format!("--customize-hook={FINISH}"))
        .args([SUITE, "/dev/null"])
        .env("MESOLITH_OUT", dir)
        .output()
        .context("cannot start mmdebstrap; `./dev test --nightly` installs it")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said.lines().collect();
    ensure!(
        output.status.success(),
        "mmdebstrap cannot make the Debian guest:\n{}",
        lines[lines.len().saturating_sub(20)..].join("\n")
    );
    // The root file system holds them now.
    for left in [overlay, dir.join("tree")] {
        fs::remove_dir_all(&left).with_context(|| format!("cannot remove {}", left.display()))?;
    }
    Ok(())
}
