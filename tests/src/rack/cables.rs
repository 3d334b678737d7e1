//! Cables beside the one a node boots through: from node to node, and into a switch that knows VLANs, which neither the
//! bridge of the rack nor the host's kernel need to.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::{Link, Node, Options, Rack};

/// A network card more, whose cable ends in the socket `to` of the rack's directory. Known to QMP by the name `from`.
fn card(from: &str, to: &str, mac: &str) -> [String; 4] {
    let netdev =
        format!("dgram,id={from},local.type=unix,local.path={from}.cable,remote.type=unix,remote.path={to}.cable");
    // LACP takes no cards of unknown speed. Without a ROM of its own nobody boots through it.
    let device = format!("virtio-net-pci,id=nic-{from},netdev={from},mac={mac},speed=10000,duplex=full,romfile=");
    ["-netdev".to_owned(), netdev, "-device".to_owned(), device]
}

impl Options {
    /// One more cable between two nodes. Each end's MAC is `52:54:00:77:1N:0C`: N the node, C the cable.
    #[must_use]
    pub fn with_cable(mut self, cable: u8, [one, other]: [u8; 2]) -> Self {
        for (own, peer) in [(one, other), (other, one)] {
            let ends = (format!("n{own}c{cable}"), format!("n{peer}c{cable}"));
            let args = card(&ends.0, &ends.1, &mac(own, cable));
            self.node_qemu_args.entry(format!("node-{own}")).or_default().extend(args);
        }
        self
    }

    /// One more cable from a node to a [`Switch`].
    #[must_use]
    pub fn with_cable_to_switch(mut self, cable: u8, node: u8) -> Self {
        let own = format!("n{node}c{cable}");
        let args = card(&own, &format!("switch-{own}"), &mac(node, cable));
        self.node_qemu_args.entry(format!("node-{node}")).or_default().extend(args);
        self
    }
}

/// The address of a node's card at a cable.
#[must_use]
pub fn mac(node: u8, cable: u8) -> String {
    format!("52:54:00:77:1{node}:0{cable}")
}

impl Node<'_> {
    /// Pulls one of these cables, or plugs it in.
    pub fn set_cable(&self, cable: u8, link: Link) -> Result<()> {
        let up = link == Link::Up;
        let name = format!("n{}c{cable}", self.plan.number);
        self.qmp("set_link", json!({"name": name, "up": up})).map(drop)
    }
}

/// Forwards what nodes send with a VLAN's tag to the rack's bridge, without it, and back. Anything else it drops.
const SWITCH: &str = r#"
import fcntl, os, select, socket, struct, subprocess, sys
vlan, ports = int(sys.argv[1]), sys.argv[2:]
tap = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tap, 0x400454ca, struct.pack("16sH", b"vlan0", 0x1002))
for line in ("link set vlan0 master br0", "link set vlan0 up"):
    subprocess.run(["ip"] + line.split(), check=True)
sockets = {}
for port in ports:
    one = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    one.bind("switch-" + port + ".cable")
    one.setblocking(False)
    sockets[one] = port
tag, learnt = struct.pack("!HH", 0x8100, vlan), {}
def send(one, frame):
    try:
        one.sendto(frame, sockets[one] + ".cable")
    except OSError:
        pass
print("ready", flush=True)
while True:
    for ready in select.select([tap, sys.stdin] + list(sockets), [], [])[0]:
        if ready is sys.stdin:
            sys.exit(0)
        if ready == tap:
            frame = os.read(tap, 65536)
            frame = frame[:12] + tag + frame[12:]
            known = learnt.get(frame[:6])
            for one in [known] if known else list(sockets):
                send(one, frame)
            continue
        try:
            frame = ready.recv(65536)
        except OSError:
            continue
        if frame[12:14] == tag[:2] and struct.unpack("!H", frame[14:16])[0] & 0xfff == vlan:
            learnt[frame[6:12]] = ready
            os.write(tap, frame[:12] + frame[16:])
"#;

/// What it may take to start Python in the rack's network.
const START: Duration = Duration::from_secs(30);

/// A switch with one VLAN, whose other side is the rack's network. It ends with this handle.
pub struct Switch(Child);

impl Switch {
    /// Starts one for the cables of a node.
    pub fn start(rack: &Rack, vlan: u16, node: u8, cables: &[u8]) -> Result<Self> {
        let ports = cables.iter().map(|cable| format!("n{node}c{cable}"));
        let mut command: Command = rack.inside(std::path::Path::new("python3"));
        command.current_dir(rack.dir()).args(["-c", SWITCH, &vlan.to_string()]).args(ports);
        let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
        let child = command.env("PATH", path).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.context("cannot start python3 in the rack's network")?;
        let said = child.stdout.take().context("the switch has an output")?;
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let read = BufReader::new(said).read_line(&mut line);
            // Nobody waits any more.
            drop(sender.send(read.map(|_| line)));
        });
        let switch = Self(child);
        let line = receiver.recv_timeout(START).context("the switch does not start")??;
        ensure!(line == "ready\n", "the switch says `{line}`");
        Ok(switch)
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
