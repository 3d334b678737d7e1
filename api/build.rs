//! Compiles the agent link's protobuf definition when the `link` feature asks for it.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/link.proto");
    #[cfg(feature = "link")]
    tonic_prost_build::configure().compile_protos(&["proto/link.proto"], &["proto"])?;
    Ok(())
}
