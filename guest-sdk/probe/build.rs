//! Generates the types of the probe's own contract.

fn main() -> Result<(), tollgate_build::Error> {
    tollgate_build::protos("proto")
}
