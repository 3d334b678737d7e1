//! The node's network: what is wanted of it, what the kernel has, and the steps from one to the other.
//!
//! [`dracut`] reads the command line, [`api::network::Settings`] is what operators write; [`resolve`] makes one wish of all
//! layers, of the cards there are and of what servers lend; [`plan`] compares it with [`Kernel`] and gives [`Step`]s.
//! [`Trial`] goes back from a setting with which the master is lost. Nothing here speaks to the kernel.

pub mod dracut;
mod kernel;
mod plan;
mod resolve;
mod router;
mod trial;

pub use kernel::{BondOptions, Kernel, Kind, Owner, Refusal, Route, Seen, Step};
pub use plan::plan;
pub use resolve::{Found, Layer, Source, Wanted, WantedKind, WantedLink, primary, resolve};
pub(crate) use router::domains as dhcp6_domains;
pub use router::{Advertisement, SOLICITATION};
pub use trial::{Change, Kept, Offered, Outcome, Trial};
