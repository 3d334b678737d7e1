//! Container images on a node: brought from registries and archives, checked, unpacked and kept.
//!
//! [`Store::pull`] is the way in. It asks the registries that [`Registries`] names ([`docker_config`] has the logins),
//! reads the manifest and chooses the image for this machine ([`manifest`]), downloads what is missing and unpacks it
//! ([`unpack`]). What several pulls want at the same time is done once. A layer is here whole or not at all, under the
//! digest of its content; [`ContainerRoot`] puts the layers of an image together for one container.
//!
//! [`fetch`] brings what else tasks want: `CommandInfo.uris`.
//!
//! What may go when the store is too full is chosen in [`garbage`]; nothing else removes anything that is in use.

pub mod archive;
pub mod container_root;
mod disk;
pub mod docker_config;
pub mod download;
pub mod fetch;
mod flights;
pub mod garbage;
pub mod manifest;
pub mod pull;
pub mod registries;
mod remote;
mod store;
mod tree;
pub mod unpack;

pub use container_root::ContainerRoot;
pub use disk::DiskError;
pub use pull::{PullCause, PullError};
pub use registries::{Registries, RegistriesError};
pub use remote::RemoteError;
pub use store::{Content, Patience, Settings, Store, StoreError};
