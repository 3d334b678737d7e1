//! Proof that a server came over the network: counted from the logs of the DHCP and TFTP server and of the master.

use std::fs;
use std::path::Path;

/// How often each step of the boot was seen for one MAC. A boot adds at least one to each.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PxeEvidence {
    /// DHCPDISCOVER from the MAC with iPXE's tag (the ROM's, not the agent's later ones).
    pub dhcp_discover: u32,
    /// DHCPACK to the MAC, the ROM's and the agent's.
    pub dhcp_ack: u32,
    /// The first script, sent by TFTP to the MAC's address.
    pub tftp: u32,
    /// `GET /boot/ipxe` answered with 200.
    pub script: u32,
    /// `GET /boot/vmlinuz` answered with 200.
    pub kernel: u32,
    /// `GET /boot/initramfs.img` answered with 200.
    pub initramfs: u32,
    /// `GET /boot/token` answered with 200.
    pub token: u32,
}

impl PxeEvidence {
    /// Whether the server did the whole way at least `times` times.
    #[must_use]
    pub fn shows(&self, times: u32) -> bool {
        [self.dhcp_discover, self.dhcp_ack, self.tftp, self.script, self.kernel, self.initramfs, self.token]
            .iter()
            .all(|&count| count >= times)
    }

    /// Reads both logs for the server with this MAC and address.
    pub(super) fn read(dnsmasq_log: &Path, boot_log: &Path, mac: &str, address: &str) -> Self {
        let text = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
        let mut evidence = Self::default();
        evidence.count_dnsmasq(&text(dnsmasq_log), mac, address);
        evidence.count_boot(&text(boot_log), mac, address);
        evidence
    }

    fn count_dnsmasq(&mut self, log: &str, mac: &str, address: &str) {
        // A transaction's lines carry its number; iPXE's say `user class: iPXE` before the DISCOVER.
        let mut of_ipxe = "";
        for line in log.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let transaction =
                words.iter().position(|word| word.starts_with("dnsmasq-dhcp[")).and_then(|at| words.get(at + 1));
            if line.ends_with("user class: iPXE") {
                of_ipxe = transaction.copied().unwrap_or_default();
            }
            let is = |kind: &str| words.iter().any(|word| word.starts_with(kind)) && words.contains(&mac);
            if is("DHCPDISCOVER(") && transaction.copied() == Some(of_ipxe) {
                self.dhcp_discover += 1;
            } else if is("DHCPACK(") {
                self.dhcp_ack += 1;
            } else if line.contains("dnsmasq-tftp[") && line.contains("sent ") && words.last() == Some(&address) {
                self.tftp += 1;
            }
        }
    }

    /// Lines are `unix_ms remote method path mac status bytes`; the kernel's and initramfs's requests carry no MAC.
    fn count_boot(&mut self, log: &str, mac: &str, address: &str) {
        for line in log.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [_, remote, "GET", path, by, "200", ..] = words.as_slice() else { continue };
            let from = remote.rsplit_once(':').map_or(*remote, |(host, _)| host);
            if !by.eq_ignore_ascii_case(mac) && from != address {
                continue;
            }
            match path.split('?').next().unwrap_or_default() {
                "/boot/ipxe" => self.script += 1,
                "/boot/vmlinuz" => self.kernel += 1,
                "/boot/initramfs.img" => self.initramfs += 1,
                "/boot/token" => self.token += 1,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: &str = "52:54:00:77:00:01";

    #[test]
    fn only_the_rom_counts_as_a_network_boot() {
        let log = "Nov 21 10:20:12 dnsmasq-dhcp[7]: 28 user class: iPXE\n\
                   Nov 21 10:20:12 dnsmasq-dhcp[7]: 28 DHCPDISCOVER(br0) 52:54:00:77:00:01 \n\
                   Nov 21 10:20:12 dnsmasq-dhcp[7]: 28 DHCPACK(br0) 10.77.0.11 52:54:00:77:00:01 \n\
                   Nov 21 10:20:12 dnsmasq-tftp[7]: sent /lab/tftp/boot.ipxe to 10.77.0.11\n\
                   Nov 21 10:20:19 dnsmasq-dhcp[7]: 99 DHCPDISCOVER(br0) 52:54:00:77:00:01 \n\
                   Nov 21 10:20:19 dnsmasq-dhcp[7]: 31 user class: iPXE\n\
                   Nov 21 10:20:19 dnsmasq-dhcp[7]: 31 DHCPDISCOVER(br0) 52:54:00:77:00:02 \n";
        let mut evidence = PxeEvidence::default();
        evidence.count_dnsmasq(log, MAC, "10.77.0.11");
        assert_eq!((evidence.dhcp_discover, evidence.dhcp_ack, evidence.tftp), (1, 1, 1));
    }

    #[test]
    fn requests_count_for_the_machine_that_made_them_and_succeeded() {
        let log = "1 10.77.0.11:2901 GET /boot/ipxe 52:54:00:77:00:01 200 300\n\
                   2 10.77.0.11:2902 GET /boot/vmlinuz - 200 8000000\n\
                   3 10.77.0.12:2902 GET /boot/vmlinuz - 200 8000000\n\
                   4 10.77.0.11 GET /boot/initramfs.img - 404 0\n\
                   5 10.77.0.11 GET /boot/token?mac=52:54:00:77:00:01&uuid=u 52:54:00:77:00:01 200 40\n\
                   cut";
        let mut evidence = PxeEvidence::default();
        evidence.count_boot(log, MAC, "10.77.0.11");
        assert_eq!((evidence.script, evidence.kernel, evidence.initramfs, evidence.token), (1, 1, 0, 1));
    }
}
