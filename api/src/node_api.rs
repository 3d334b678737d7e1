//! What can be asked of a node, and who may ask it: one table, used by the master, which asks, and by the node, which
//! answers and checks again.

use std::fmt;

/// What somebody may do on nodes. Each may what those before it may.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum NodeRole {
    /// Looks at machines, but not at what people run on them.
    Reader,
    /// Looks at everything, and restarts machines, which come back by themselves.
    Operator,
    /// Also what needs somebody at the machine afterwards.
    Admin,
}

impl NodeRole {
    /// Every one, the least first.
    pub const ALL: [Self; 3] = [Self::Reader, Self::Operator, Self::Admin];

    /// As certificates name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// The role of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }

    /// May it?
    #[must_use]
    pub fn may(self, method: Method) -> bool {
        self >= method.least_role()
    }
}

impl fmt::Display for NodeRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Something a node does when asked.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Method {
    /// Versions of agent, image and kernel, the boot and how long it is ago.
    Version,
    /// `hwdetect::Inventory`, detected now.
    Inventory,
    /// Load, memory, processors and pressure at this moment.
    Stats,
    /// Mounted file systems.
    Mounts,
    /// Network interfaces with addresses and counters.
    Links,
    /// Where packets go.
    Routes,
    /// What the network is to be, who says so, and what of it could not be.
    Network,
    /// What runs, tasks included.
    Processes,
    /// The containers of tasks, with what they use.
    Containers,
    /// The kernel's messages.
    Dmesg,
    /// The clock: how far it is off, how fast it drifts, who says so.
    Time,
    /// Disks with their state of health.
    Disks,
    /// Ends the machine in good order and starts it again.
    Reboot,
    /// Ends the machine in good order; somebody has to switch it on again.
    PowerOff,
    /// Forgets its keys and whatever it keeps, and starts again as a machine nobody knows.
    Wipe,
}

impl Method {
    /// Every one.
    pub const ALL: [Self; 15] = [
        Self::Version,
        Self::Inventory,
        Self::Stats,
        Self::Mounts,
        Self::Links,
        Self::Routes,
        Self::Network,
        Self::Processes,
        Self::Containers,
        Self::Dmesg,
        Self::Time,
        Self::Disks,
        Self::Reboot,
        Self::PowerOff,
        Self::Wipe,
    ];

    /// As paths and messages name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::Inventory => "inventory",
            Self::Stats => "stats",
            Self::Mounts => "mounts",
            Self::Links => "links",
            Self::Routes => "routes",
            Self::Network => "network",
            Self::Processes => "processes",
            Self::Containers => "containers",
            Self::Dmesg => "dmesg",
            Self::Reboot => "reboot",
            Self::PowerOff => "power-off",
            Self::Time => "time",
            Self::Disks => "disks",
            Self::Wipe => "wipe",
        }
    }

    /// The method of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.name() == name)
    }

    /// Is the node another afterwards?
    #[must_use]
    pub const fn changes(self) -> bool {
        matches!(self, Self::Reboot | Self::PowerOff | Self::Wipe)
    }

    /// Who may ask for it.
    #[must_use]
    pub const fn least_role(self) -> NodeRole {
        match self {
            Self::Version
            | Self::Inventory
            | Self::Stats
            | Self::Mounts
            | Self::Links
            | Self::Routes
            | Self::Network
            | Self::Time
            | Self::Disks => NodeRole::Reader,
            // Command lines and messages tell what people run.
            Self::Processes | Self::Containers | Self::Dmesg | Self::Reboot => NodeRole::Operator,
            Self::PowerOff | Self::Wipe => NodeRole::Admin,
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_role_may_what_the_table_says_and_nothing_else() {
        let table = [
            (Method::Version, [true, true, true]),
            (Method::Inventory, [true, true, true]),
            (Method::Stats, [true, true, true]),
            (Method::Mounts, [true, true, true]),
            (Method::Links, [true, true, true]),
            (Method::Routes, [true, true, true]),
            (Method::Network, [true, true, true]),
            (Method::Processes, [false, true, true]),
            (Method::Containers, [false, true, true]),
            (Method::Dmesg, [false, true, true]),
            (Method::Time, [true, true, true]),
            (Method::Disks, [true, true, true]),
            (Method::Reboot, [false, true, true]),
            (Method::PowerOff, [false, false, true]),
            (Method::Wipe, [false, false, true]),
        ];
        assert_eq!(table.map(|(method, _)| method), Method::ALL, "a new method needs its row");
        for (method, expected) in table {
            assert_eq!(NodeRole::ALL.map(|role| role.may(method)), expected, "{method}");
        }
    }

    #[test]
    fn names_are_read_back() {
        for method in Method::ALL {
            assert_eq!(Method::from_name(method.name()), Some(method));
        }
        for role in NodeRole::ALL {
            assert_eq!(NodeRole::from_name(role.name()), Some(role));
        }
        assert_eq!((Method::from_name("shell"), NodeRole::from_name("root")), (None, None));
    }
}
