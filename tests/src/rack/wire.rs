//! The other end of a node's cable: a fake switch that says who it is, and an ear for what the node says.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::Node;

/// Sends one frame out of a port of the rack's network: it arrives at the node on that port alone.
const SEND: &str = "import socket, sys\n\
                    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)\n\
                    s.bind((sys.argv[1], 0))\n\
                    s.send(bytes.fromhex(sys.argv[2]))\n";

/// Prints the first LLDP frame that the node on a port sends. Every protocol is listened to, for the bridge takes a
/// frame of this one before a socket for it alone would see it; what is sent to the node is passed over.
const HEAR: &str = "import socket, sys, time\n\
                    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))\n\
                    s.bind((sys.argv[1], 3))\n\
                    s.settimeout(1)\n\
                    end = time.time() + float(sys.argv[2])\n\
                    while time.time() < end:\n\
                    \x20   try:\n\
                    \x20       frame, address = s.recvfrom(4096)\n\
                    \x20   except socket.timeout:\n\
                    \x20       continue\n\
                    \x20   if frame[12:14] == b'\\x88\\xcc' and address[2] != 4:\n\
                    \x20       print(frame.hex())\n\
                    \x20       sys.exit(0)\n\
                    sys.exit('nothing was said')\n";

/// Starting Python in the rack's network.
const START: Duration = Duration::from_secs(20);

impl Node<'_> {
    /// Puts an Ethernet frame on the node's cable.
    pub fn send_frame(&self, frame: &[u8]) -> Result<()> {
        let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
        self.python(SEND, &hex, START).map(drop)
    }

    /// The next LLDP frame the node sends.
    pub fn hear_lldp(&self, timeout: Duration) -> Result<Vec<u8>> {
        let said = self.python(HEAR, &timeout.as_secs_f32().to_string(), timeout + START)?;
        let hex = said.trim();
        let bytes = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(hex.get(at..at + 2).unwrap_or_default(), 16));
        bytes.collect::<Result<_, _>>().with_context(|| format!("`{hex}` is no frame"))
    }

    fn python(&self, program: &str, argument: &str, timeout: Duration) -> Result<String> {
        let mut child = self
            .rack
            .inside(std::path::Path::new("python3"))
            .args(["-c", program, &self.plan.tap, argument])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start python3 in the rack's network")?;
        let deadline = Instant::now() + timeout;
        while child.try_wait()?.is_none() {
            if Instant::now() >= deadline {
                // It may have ended by itself.
                let _ = child.kill();
                let _ = child.wait();
                bail!("python3 on {} did not end within {timeout:?}", self.plan.tap);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let output = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "python3 on {} failed: {said}", self.plan.tap);
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
