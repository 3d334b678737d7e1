//! The virtual rack: a private network, a master and diskless servers that really boot over it; and what tests share.
//!
//! [`rack::Rack`] is the handle a test holds. Behind it runs one process, `mesolith-lab serve`, which owns the network
//! and every server in it: when that process ends, by whatever cause, the kernel takes the rest away.
//! [`debian_guest::DebianGuest`] is an ordinary distribution for hosted mode, [`bare_master::BareMaster`] its master;
//! [`hosted_agent::HostedAgent`] is one without isolation, beside the test.
//! [`clients`] are programs of other people, unmodified. [`simulated::Agents`] are agents without machines, by the thousand.
//! [`lab`] is the same rack for people (`./dev up`), [`tidy`] holds the rules of the source tree.

pub mod bare_master;
pub mod books;
pub mod clients;
pub mod conformance;
pub mod debian_guest;
pub mod framework;
pub mod hosted_agent;
pub mod http;
pub mod lab;
pub mod masters;
pub mod rack;
pub mod separated;
pub mod simulated;
pub mod tasks;
pub mod tidy;
