//! Disks and devices a task names, as the numbers the kernel knows them by.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use agent_core::launch::{DiskLimit, Gpu, Named, NodeDevice, User};
use hwdetect::Inventory;
use serde_json::{Value, json};

use super::machine;

/// Where the kernel lists disks and their parts.
const DISKS: &str = "/sys/class/block";
const HIERARCHY: &str = "/sys/fs/cgroup";

/// Why a task cannot have what it names.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NamedError {
    #[error("this node has no disk '{0}'")]
    NoDisk(String),
    #[error("this node has no device '{0}'")]
    NoDevice(String),
    #[error("'{0}' is no device")]
    NotADevice(String),
    #[error("cannot look at '{path}'")]
    Look { path: String, source: io::Error },
    #[error("this node's kernel does not weigh input and output")]
    NoWeights,
}

/// Writes it into a specification.
pub(crate) fn write(named: &Named, user: User, config: &mut Value) -> Result<(), NamedError> {
    if config.get("linux").is_none() {
        return Ok(());
    }
    if !named.disks.is_empty() {
        config["linux"]["resources"]["blockIO"] = limits(&named.disks)?;
    }
    if let Some(weight) = named.io_weight {
        let cgroup = config["linux"]["cgroupsPath"].as_str().unwrap_or_default();
        let parent = Path::new(cgroup).parent().unwrap_or(Path::new("/"));
        let parent = Path::new(HIERARCHY).join(parent.strip_prefix("/").unwrap_or(parent));
        let file = ["io.weight", "io.bfq.weight"].into_iter().find(|file| parent.join(file).exists());
        config["linux"]["resources"]["unified"][file.ok_or(NamedError::NoWeights)?] = json!(weight.to_string());
        weigh_disks();
    }
    for device in &named.devices {
        let node = look(device)?;
        let (kind, major, minor) = (node.kind, node.major, node.minor);
        push(
            &mut config["linux"]["devices"],
            json!({"path": device.path, "type": kind, "major": major, "minor": minor,
            "fileMode": 0o660, "uid": user.uid, "gid": user.gid}),
        );
        push(
            &mut config["linux"]["resources"]["devices"],
            json!({"allow": true, "type": kind, "major": major, "minor": minor, "access": device.access}),
        );
    }
    Ok(())
}

fn push(list: &mut Value, entry: Value) {
    match list.as_array_mut() {
        Some(list) => list.push(entry),
        None => *list = json!([entry]),
    }
}

/// As the runtime specification has them.
fn limits(disks: &[DiskLimit]) -> Result<Value, NamedError> {
    let mut all = json!({});
    for disk in disks {
        let (major, minor) = disk_number(&disk.disk)?;
        for (name, rate) in [
            ("throttleReadBpsDevice", disk.read_bytes),
            ("throttleWriteBpsDevice", disk.write_bytes),
            ("throttleReadIOPSDevice", disk.reads),
            ("throttleWriteIOPSDevice", disk.writes),
        ] {
            if let Some(rate) = rate {
                limit(&mut all[name], (major, minor), rate);
            }
        }
    }
    Ok(all)
}

/// Of several limits of one disk, which may have been named by its parts, the least holds.
fn limit(list: &mut Value, (major, minor): (u64, u64), rate: u64) {
    let mut known = list.as_array_mut().into_iter().flatten();
    match known.find(|entry| entry["major"] == major && entry["minor"] == minor) {
        Some(entry) => entry["rate"] = entry["rate"].as_u64().map_or(rate, |known| known.min(rate)).into(),
        None => push(list, json!({"major": major, "minor": minor, "rate": rate})),
    }
}

/// Of a whole disk, also when one of its parts is named: the kernel limits disks.
fn disk_number(name: &str) -> Result<(u64, u64), NamedError> {
    let no_disk = || NamedError::NoDisk(name.to_owned());
    let place = fs::canonicalize(Path::new(DISKS).join(name)).map_err(|_| no_disk())?;
    let whole: PathBuf = match place.join("partition").exists() {
        true => place.parent().ok_or_else(no_disk)?.to_owned(),
        false => place,
    };
    let text = fs::read_to_string(whole.join("dev")).map_err(|_| no_disk())?;
    let (major, minor) = text.trim().split_once(':').ok_or_else(no_disk)?;
    Ok((major.parse().map_err(|_| no_disk())?, minor.parse().map_err(|_| no_disk())?))
}

/// Weights mean something for disks whose requests are costed. A disk that cannot be is not weighed.
fn weigh_disks() {
    for entry in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
        let real = entry.path().join("device").exists();
        if let Some(number) = fs::read_to_string(entry.path().join("dev")).ok().filter(|_| real) {
            let text = format!("{} enable=1", number.trim());
            if let Err(error) = fs::write(Path::new(HIERARCHY).join("io.cost.qos"), text) {
                tracing::debug!(disk = ?entry.file_name(), %error, "a disk's requests are not weighed");
            }
        }
    }
}

struct Node {
    kind: &'static str,
    major: u32,
    minor: u32,
}

fn look(device: &NodeDevice) -> Result<Node, NamedError> {
    let path = device.path.clone();
    let about = match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(NamedError::NoDevice(path)),
        about => about.map_err(|source| NamedError::Look { path: path.clone(), source })?,
    };
    let kind = about.file_type();
    let kind = match (kind.is_char_device(), kind.is_block_device()) {
        (true, _) => "c",
        (_, true) => "b",
        (false, false) => return Err(NamedError::NotADevice(path)),
    };
    let number = about.rdev();
    Ok(Node { kind, major: rustix::fs::major(number), minor: rustix::fs::minor(number) })
}

/// The device nodes of each graphics processor; what its driver shares between all of them comes along.
pub(crate) fn gpus(inventory: &Inventory) -> Vec<Gpu> {
    let real = inventory.accelerators.iter().filter(|accelerator| machine::is_gpu(accelerator));
    let nodes = |accelerator: &hwdetect::Accelerator| {
        let mut nodes: Vec<String> = accelerator.drm_nodes.iter().map(|node| format!("/dev/dri/{node}")).collect();
        match accelerator.driver.as_deref() {
            Some("nvidia") => {
                nodes.extend(nvidia_minor(&accelerator.pci_address).map(|minor| format!("/dev/nvidia{minor}")));
                nodes.extend(["nvidiactl", "nvidia-uvm", "nvidia-uvm-tools"].map(|name| format!("/dev/{name}")));
            }
            Some("amdgpu") => nodes.push("/dev/kfd".to_owned()),
            Some(_) | None => {}
        }
        nodes.retain(|node| Path::new(node).exists());
        nodes
    };
    real.map(|accelerator| Gpu { id: accelerator.pci_address.clone(), nodes: nodes(accelerator) }).collect()
}

fn nvidia_minor(address: &str) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/driver/nvidia/gpus/{address}/information")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("Device Minor:")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: User = User { uid: 7, gid: 8 };

    #[test]
    fn a_device_is_made_for_the_task_and_allowed() {
        let device = NodeDevice { path: "/dev/zero".to_owned(), access: "rw" };
        let named = Named { devices: vec![device], ..Named::default() };
        let mut config = json!({"linux": {"resources": {"devices": [{"allow": false, "access": "rwm"}]}}});
        write(&named, USER, &mut config).unwrap();
        let made = &config["linux"]["devices"][0];
        assert_eq!((&made["path"], &made["major"], &made["minor"]), (&json!("/dev/zero"), &json!(1), &json!(5)));
        assert_eq!((&made["uid"], &made["type"]), (&json!(7), &json!("c")));
        let allowed = json!({"allow": true, "type": "c", "major": 1, "minor": 5, "access": "rw"});
        assert_eq!(config["linux"]["resources"]["devices"][1], allowed);
    }

    #[test]
    fn of_two_limits_of_one_disk_the_least_holds() {
        let mut list = Value::Null;
        limit(&mut list, (8, 0), 400);
        limit(&mut list, (8, 16), 5);
        limit(&mut list, (8, 0), 900);
        limit(&mut list, (8, 0), 300);
        let of = |minor: u64, rate: u64| json!({"major": 8, "minor": minor, "rate": rate});
        assert_eq!(list, json!([of(0, 300), of(16, 5)]));
    }

    #[test]
    fn what_is_not_there_is_said() {
        let device =
            |path: &str| Named { devices: vec![NodeDevice { path: path.to_owned(), access: "r" }], ..Named::default() };
        let mut config = json!({"linux": {}});
        for (named, words) in [
            (device("/dev/nothing-like-it"), "no device '/dev/nothing-like-it'"),
            (device("/dev/.."), "is no device"),
            (Named { disks: DiskLimit::parse("none:rbps=1").unwrap(), ..Named::default() }, "no disk 'none'"),
        ] {
            let error = write(&named, USER, &mut config).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let mut unconfined = json!({});
        write(&device("/dev/nothing-like-it"), USER, &mut unconfined).unwrap();
        assert_eq!(unconfined, json!({}));
    }
}
