fn main() -> Result<(), tollgate_build::Error> {
    tollgate_build::protos("../../proto")
}
