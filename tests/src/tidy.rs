//! The rules of the source tree that a compiler does not check. `tests/tests/tidy.rs` runs them over this repository.
//!
//! Each rule is a function from the tree (or from text, for its own tests) to complaints; no complaint, no failure.

mod code;
mod dependencies;
mod docs;
mod floors;
mod longest;
mod manifests;
mod source;
mod tree;

pub use dependencies::{duplicates, licences};
pub use docs::stale_paths;
pub use floors::floors;
pub use longest::{TOO_LONG, longest_files, longest_functions, too_long_files};
pub use manifests::{missing_lints, missing_reasons};
pub use source::{file_names, forbidden_words, missing_purpose, pure_cores, stray_unsafe};
pub use tree::{SourceFile, Tree};
