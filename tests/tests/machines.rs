//! Machines of several shapes boot over the network, and their attributes equal golden answers in `tests/machines`.
//! `BLESS=1` writes them anew.

#![cfg(feature = "nightly")]
#![allow(clippy::unwrap_used)] // a panic is how a test fails, in its parts too

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::rack::{Options, Places, Rack, repository};

/// Six emulated servers on two processors.
const BOOT: Duration = Duration::from_secs(900);
/// Drivers that are no disk's and no network's load after a node has registered.
const SETTLED: Duration = Duration::from_secs(90);

/// By number of the node: what QEMU is given beside what every node has.
fn shapes() -> [(&'static str, String); 6] {
    [
        (
            // Two sockets with threads and memory of their own, and a function of the 3D controllers' class.
            "numa",
            "-cpu Skylake-Server -smp 4,sockets=2,cores=1,threads=2 \
             -object memory-backend-ram,id=m0,size=384M -object memory-backend-ram,id=m1,size=384M \
             -numa node,nodeid=0,cpus=0-1,memdev=m0 -numa node,nodeid=1,cpus=2-3,memdev=m1 \
             -numa dist,src=0,dst=1,val=21 \
             -blockdev driver=null-co,node-name=g0,size=1048576 -device virtio-blk-pci,drive=g0,class=0x0302 \
             -device pci-testdev"
                .to_owned(),
        ),
        (
            "nvme",
            "-blockdev driver=null-co,node-name=d0,size=3840755982336 -device nvme,drive=d0,serial=NV0001 \
             -blockdev driver=null-co,node-name=d1,size=1600321314816 -device nvme,drive=d1,serial=NV0002"
                .to_owned(),
        ),
        (
            "scsi",
            "-device virtio-scsi-pci,id=s0 \
             -blockdev driver=null-co,node-name=d0,size=8001563222016 \
             -device scsi-hd,bus=s0.0,drive=d0,serial=HD0001,vendor=SEAGATE,product=ST8000NM0055,rotation_rate=7200 \
             -blockdev driver=null-co,node-name=d1,size=480103981056 \
             -device scsi-hd,bus=s0.0,drive=d1,serial=SD0001,vendor=ACME,product=SSD-480,rotation_rate=1 \
             -blockdev driver=null-co,node-name=d2,size=2000398934016 \
             -device ide-hd,bus=ide.0,drive=d2,serial=ATA0001,model=ST2000NM,rotation_rate=7200"
                .to_owned(),
        ),
        (
            "cards",
            "-netdev hubport,id=n1,hubid=1 -device e1000e,netdev=n1,mac=52:54:00:88:00:01 \
             -netdev hubport,id=n2,hubid=2 -device virtio-net-pci,netdev=n2,mac=52:54:00:88:00:02,speed=25000,duplex=full \
             -netdev hubport,id=n3,hubid=3 -device virtio-net-pci,netdev=n3,mac=52:54:00:88:00:03,speed=10000,duplex=full \
             -netdev hubport,id=n4,hubid=4 -device vmxnet3,netdev=n4,mac=52:54:00:88:00:04"
                .to_owned(),
        ),
        (
            "keeper",
            "-chardev socket,id=tpm,path=tpm.sock -tpmdev emulator,id=t0,chardev=tpm -device tpm-tis,tpmdev=t0 \
             -device ipmi-bmc-sim,id=bmc0,mfg_id=0x1234,product_id=0x42 -device isa-ipmi-kcs,bmc=bmc0 \
             -device i6300esb"
                .to_owned(),
        ),
        (
            "labelled",
            "-smbios type=0,vendor=Acme_Firmware,version=2.1.7,date=03/14/2025,release=2.1 \
             -smbios type=1,manufacturer=Acme_Inc.,product=RackStar_2200,serial=SN-A-0001,sku=SKU-1 \
             -smbios type=2,manufacturer=Acme,product=MB-1,serial=MB-1,asset=A-BOARD \
             -smbios type=3,manufacturer=Acme,serial=CH-1,asset=A-10442 \
             -smbios type=11,value=lab.site=berlin-1,value=lab.rack=R07,value=lab.unit=U12 \
             -smbios type=17,loc_pfx=DIMM_,manufacturer=Acme,serial=D1,speed=3200"
                .to_owned(),
        ),
    ]
}

/// What differs between hosts, releases and boots, and says nothing of the shape.
fn is_volatile(name: &str) -> bool {
    let counts = ["cpu.sockets", "cpu.dies", "cpu.cores", "cpu.threads", "cpu.smt"];
    let named = [
        "agent.version",
        "os.version",
        "kernel.version",
        "mem.total_mib",
        "ip",
        "net.primary",
        "node.uuid",
        "virt",
        "node.name",
    ];
    let bios = ["node.bios.version", "node.bios.date"];
    (name.starts_with("cpu.") && !counts.contains(&name))
        || name.starts_with("numa.mem_mib.")
        || named.contains(&name)
        || bios.contains(&name)
}

/// A TPM in a process of its own, which ends with the value.
struct Tpm(Child);

impl Tpm {
    fn start(dir: &Path) -> Self {
        let state = dir.join("tpm");
        fs::create_dir_all(&state).unwrap();
        let socket = dir.join("tpm.sock");
        let child = Command::new("swtpm")
            .args(["socket", "--tpm2", "--tpmstate", &format!("dir={}", state.display())])
            .args(["--ctrl", &format!("type=unixio,path={}", socket.display())])
            .stdin(Stdio::null())
            .spawn()
            .expect("swtpm is installed: `./dev test --nightly` does");
        let began = Instant::now();
        while !socket.exists() {
            assert!(began.elapsed() < Duration::from_secs(20), "swtpm makes no socket");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self(child)
    }
}

impl Drop for Tpm {
    fn drop(&mut self) {
        // It ends by itself when QEMU does; then there is nothing to kill.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn machines_of_six_shapes_have_their_golden_attributes() {
    let dir = tempfile::tempdir().unwrap();
    let shapes = shapes();
    let mut options = Options {
        nodes: shapes.len(),
        places: Places::Untold,
        dir: Some(dir.path().to_owned()),
        ..Options::new().unwrap()
    };
    for (number, (_, args)) in shapes.iter().enumerate() {
        // The kernel's words have underscores where QEMU's options have blanks.
        let args = args.split_whitespace().map(str::to_owned).collect();
        options.node_qemu_args.insert(format!("node-{}", number + 1), args);
    }
    let _tpm = Tpm::start(dir.path());
    let rack = Rack::start(options).unwrap();
    let began = Instant::now();
    rack.wait_registered(shapes.len(), BOOT).unwrap();
    let registered = Instant::now();
    println!("{} machines registered after {:.0} s", shapes.len(), began.elapsed().as_secs_f32());
    let mut wrong = String::new();
    for (number, (shape, _)) in shapes.iter().enumerate() {
        let file = repository().join("tests/machines").join(format!("{shape}.txt"));
        let expected = fs::read_to_string(&file).unwrap_or_default();
        let mut found = attributes(&rack, number + 1);
        while found != expected && registered.elapsed() < SETTLED {
            std::thread::sleep(Duration::from_millis(500));
            found = attributes(&rack, number + 1);
        }
        if std::env::var_os("BLESS").is_some_and(|value| value == "1") {
            fs::write(&file, &found).unwrap();
        }
        if found == expected {
            println!("{shape}: {} attributes as committed", found.lines().count());
        } else {
            writeln!(wrong, "{shape} is\n{found}and not\n{expected}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    rack.end().unwrap();
}

fn attributes(rack: &Rack, number: usize) -> String {
    let answer = rack.get(&format!("/mesolith/v1/nodes/node-{number}/attributes")).unwrap();
    let known: BTreeMap<&str, (&Value, &str)> = answer["attributes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["name"].as_str().unwrap(), (&one["value"], one["source"].as_str().unwrap())))
        .collect();
    known
        .into_iter()
        .filter(|(name, _)| !is_volatile(name))
        .fold(String::new(), |text, (name, (value, source))| format!("{text}{name} = {value} from {source}\n"))
}
