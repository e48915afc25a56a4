//! The compiler of `.proto` files for the libraries that do not contain one.

use tollgate_config::Pipeline;
use tollgate_config::error::Failure;
use tollgate_decide::contracts::Contracts;
use tollgate_engine::runtime::build::ProtoCompiler;

/// The engine's compiler.
pub const COMPILER: ProtoCompiler =
    ProtoCompiler { pools: tollgate_protos::pools, schema: tollgate_protos::compile_schema };

/// Compiles a pipeline's contracts from its `.proto` files, type by type. It reads files and uses no network.
///
/// # Errors
/// Fails with `contract.invalid` if a file cannot be compiled, or if the pipeline does not fit its message types.
pub fn contracts(pipeline: &Pipeline) -> Result<Vec<Contracts>, Failure> {
    tollgate_decide::contracts::contracts(pipeline, &tollgate_protos::pools(pipeline)?)
}
