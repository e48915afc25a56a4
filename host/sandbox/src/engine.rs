//! The engine of the process: its configuration, its pool of instances and its clock.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, Module, OperatorCost, OptLevel, PoolingAllocationConfig,
    RegallocAlgorithm, Store,
};

use crate::error::SandboxError;
use crate::limits;

/// The sizes that the engine is built for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The number of threads that run chains.
    pub lanes: usize,
    /// The maximum number of transforms in a chain.
    pub transforms: usize,
    /// The maximum memory of an instance in bytes, whatever its manifest says.
    pub memory: u64,
    /// The size of a guest's stack in bytes; threads need [`limits::THREAD_STACK`] for the default.
    pub stack: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { lanes: 2, transforms: 4, memory: 64 << 20, stack: limits::WASM_STACK }
    }
}

/// The engine of the process. Cheap to clone.
#[derive(Clone)]
pub struct Sandbox {
    pub(crate) engine: Engine,
    pub(crate) settings: Arc<Settings>,
    /// The fuel that slow code consumes in a millisecond on this machine.
    pub(crate) fuel_per_ms: u64,
}

impl Sandbox {
    /// Creates the engine, its pool and the thread that counts epochs (which ends with the last clone and the last
    /// [`crate::Transform`]).
    ///
    /// # Errors
    /// Fails if the settings are out of range, or if the system cannot provide the engine or the thread.
    pub fn new(settings: Settings) -> Result<Sandbox, SandboxError> {
        if settings.memory < 1 << 16 || settings.memory > limits::MAX_MEMORY {
            return Err(SandboxError::Memory { bytes: settings.memory, most: limits::MAX_MEMORY });
        }
        let engine = engine(&settings)?;
        start_ticker(&engine)?;
        let fuel_per_ms = calibrate(&engine).map_err(|error| SandboxError::Engine(format!("{error:#}")))?;
        tracing::debug!(fuel_per_ms, "sandbox ready");
        Ok(Sandbox { engine, settings: Arc::new(settings), fuel_per_ms })
    }

    /// Returns how long an event may run before it is interrupted. Fuel must run out first, even on a busy machine.
    pub(crate) fn deadline(&self, asked: Duration, fuel: u64) -> Duration {
        let fuel_takes = Duration::from_millis(fuel / self.fuel_per_ms + 1);
        asked.max(fuel_takes * limits::DEADLINE_FACTOR)
    }
}

/// Creates the engine with a pool of instances. A lane holds one instance at a time, but the pool's slots remember
/// their component. With one slot for each transform of each lane, doubled for a swap, a new instance finds its memory
/// mapped. If the address space is too small (39 bits, `ulimit -v`), a smaller pool still helps. Without any pool, each
/// instance costs a few system calls.
fn engine(settings: &Settings) -> Result<Engine, SandboxError> {
    let wanted = settings.lanes.max(1).saturating_mul(settings.transforms.max(1)).saturating_mul(2).saturating_add(4);
    let least = settings.lanes.max(1).saturating_add(2);
    let mut places = u32::try_from(wanted).unwrap_or(u32::MAX);
    while places as usize >= least {
        let mut config = config(settings.stack);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(settings, places)));
        match Engine::new(&config) {
            Ok(engine) => return Ok(engine),
            Err(error) => tracing::debug!(places, "no pool of this size: {error:#}"),
        }
        places /= 2;
    }
    tracing::warn!("no address space for a pool of instances: each batch maps its own memory, which is slower");
    let mut config = config(settings.stack);
    config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
    Engine::new(&config)
        .map_err(|error| SandboxError::Engine(format!("{error:#}; allocating instances from a pool failed too")))
}

/// Creates an engine that only compiles: its output fits the engines that run, and it reserves no pool.
pub(crate) fn compiler(stack: usize) -> wasmtime::Result<Engine> {
    let mut config = config(stack);
    config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
    Engine::new(&config)
}

fn config(stack: usize) -> Config {
    let mut config = Config::new();
    config
        .consume_fuel(true)
        .operator_cost(costs())
        .epoch_interruption(true)
        // On by default, and costs half a microsecond on every call.
        .concurrency_support(false)
        .memory_reservation(4 << 30)
        .memory_guard_size(32 << 20)
        .memory_may_move(false)
        .max_wasm_stack(stack)
        // The unwinder's registration is quadratic in some C libraries; wasmtime's own traces need none.
        .native_unwind_info(false)
        .generate_address_map(true)
        .wasm_backtrace_max_frames(NonZeroUsize::new(8))
        .cranelift_opt_level(OptLevel::Speed)
        .cranelift_regalloc_algorithm(RegallocAlgorithm::Backtracking)
        // At a swap the compiler runs while the lanes work. It may take longer, but it must not use their cores.
        .parallel_compilation(false)
        // Makes an event's verdict the same on every machine.
        .cranelift_nan_canonicalization(true)
        .wasm_relaxed_simd(false)
        .wasm_memory64(false);
    config
}

/// Returns the fuel of each instruction: one unit, as in wasmtime, but more for instructions that call into the
/// runtime. Otherwise a loop over them would take far longer than its fuel suggests, and end by the deadline, which
/// settles no event. `memory.copy` keeps its one unit: short copies are compiled to machine code, and honest guests use
/// it heavily. The pages that a memory grows by are free, because an instance has few of them (`limits.memory`), and an
/// event must not pay for its batch.
fn costs() -> OperatorCost {
    let mut cost = OperatorCost::new();
    for slow in [&mut cost.MemoryGrow, &mut cost.TableGrow, &mut cost.TableInit, &mut cost.ElemDrop, &mut cost.RefFunc]
    {
        *slow = limits::SLOW_LIBCALL_FUEL;
    }
    for libcall in [
        &mut cost.MemoryFill,
        &mut cost.MemoryInit,
        &mut cost.TableCopy,
        &mut cost.TableFill,
        &mut cost.DataDrop,
        &mut cost.TableGet,
        &mut cost.TableSet,
    ] {
        *libcall = limits::LIBCALL_FUEL;
    }
    cost
}

/// Returns the pool's settings. `pagemap_scan` stays off: wasmtime 48 does not reset pages that were swapped out.
fn pool(settings: &Settings, places: u32) -> PoolingAllocationConfig {
    let memory = usize::try_from(settings.memory).unwrap_or(usize::MAX);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(places)
        .total_core_instances(places.saturating_mul(limits::CORE_INSTANCES))
        .total_memories(places.saturating_add(limits::MEMORIES))
        .total_tables(places.saturating_mul(2).saturating_add(limits::TABLES))
        .max_core_instances_per_component(limits::CORE_INSTANCES)
        .max_memories_per_component(limits::MEMORIES)
        .max_tables_per_component(limits::TABLES)
        .max_core_instance_size(limits::INSTANCE_BYTES)
        .max_component_instance_size(limits::INSTANCE_BYTES)
        .max_memory_size(memory)
        .table_elements(limits::TABLE_ELEMENTS)
        .max_unused_warm_slots(places)
        .decommit_batch_size(1)
        // Wiping this much manually is cheaper than releasing it and faulting it in again.
        .linear_memory_keep_resident(256 << 10)
        .table_keep_resident(8 << 10);
    pool
}

/// Starts the thread that counts epochs. It holds the engine weakly, so that it ends when nothing uses the engine any
/// more.
fn start_ticker(engine: &Engine) -> Result<(), SandboxError> {
    let weak = engine.weak();
    let tick = move || {
        while let Some(engine) = weak.upgrade() {
            engine.increment_epoch();
            drop(engine);
            thread::sleep(limits::TICK);
        }
    };
    thread::Builder::new().name("epoch".into()).stack_size(64 << 10).spawn(tick).map_err(SandboxError::Ticker)?;
    Ok(())
}

/// A loop of `n` dependent divisions and loads, about the slowest code per unit of fuel:
///
/// ```wat
/// (module (memory 1) (func (export "run") (param i32) (result i32) (local i32)
///   loop
///     local.get 1  i32.const 65532  i32.and  i32.load
///     local.get 0  i32.div_u  local.get 0  i32.add  local.set 1
///     local.get 0  i32.const 1  i32.sub  local.tee 0  br_if 0
///   end
///   local.get 1))
/// ```
const CALIBRATION: &[u8] = &[
    0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00, 0x01, 0x06, 0x01, 0x60, 0x01, 0x7f, 0x01, 0x7f, 0x03, 0x02, 0x01,
    0x00, 0x05, 0x03, 0x01, 0x00, 0x01, 0x07, 0x07, 0x01, 0x03, 0x72, 0x75, 0x6e, 0x00, 0x00, 0x0a, 0x26, 0x01, 0x24,
    0x01, 0x01, 0x7f, 0x03, 0x40, 0x20, 0x01, 0x41, 0xfc, 0xff, 0x03, 0x71, 0x28, 0x02, 0x00, 0x20, 0x00, 0x6e, 0x20,
    0x00, 0x6a, 0x21, 0x01, 0x20, 0x00, 0x41, 0x01, 0x6b, 0x22, 0x00, 0x0d, 0x00, 0x0b, 0x20, 0x01, 0x0b,
];

/// Measures how much fuel corresponds to a millisecond, as the best of three runs of a few milliseconds. The best run
/// shows the machine's own speed, and the factor of twenty on top of it covers everything else.
fn calibrate(engine: &Engine) -> wasmtime::Result<u64> {
    const FUEL: u64 = 1 << 40;
    const ROUNDS: i32 = 200_000;
    let module = Module::from_binary(engine, CALIBRATION)?;
    let mut store = Store::try_new(engine, ())?;
    store.set_fuel(FUEL)?;
    store.set_epoch_deadline(u64::MAX / 2);
    let instance = wasmtime::Instance::new(&mut store, &module, &[])?;
    let run = instance.get_typed_func::<i32, i32>(&mut store, "run")?;
    let mut best = Duration::MAX;
    let mut used = 0;
    for _ in 0..3 {
        store.set_fuel(FUEL)?;
        let began = Instant::now();
        run.call(&mut store, ROUNDS)?;
        best = best.min(began.elapsed());
        used = FUEL - store.get_fuel()?;
    }
    let nanos = u64::try_from(best.as_nanos()).unwrap_or(u64::MAX).max(1);
    Ok((used.saturating_mul(1_000_000) / nanos).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calibration_module_is_what_its_comment_says() {
        let wat = r#"(module (memory 1) (func (export "run") (param i32) (result i32) (local i32)
            loop
              local.get 1  i32.const 65532  i32.and  i32.load
              local.get 0  i32.div_u  local.get 0  i32.add  local.set 1
              local.get 0  i32.const 1  i32.sub  local.tee 0  br_if 0
            end
            local.get 1))"#;
        assert_eq!(wat::parse_str(wat).unwrap(), CALIBRATION);
    }

    #[test]
    fn the_deadline_lies_twenty_times_above_the_fuel() {
        let sandbox = Sandbox::new(Settings::default()).unwrap();
        assert_eq!(sandbox.deadline(Duration::from_secs(1), 1), Duration::from_secs(1));
        let second = sandbox.fuel_per_ms * 1_000;
        let (least, most) = (Duration::from_secs(20), Duration::from_millis(20_020));
        assert!((least..=most).contains(&sandbox.deadline(Duration::from_secs(1), second)));
        // A division and a load take between one cycle and a few hundred.
        assert!((10_000..100_000_000).contains(&sandbox.fuel_per_ms), "{} fuel per ms", sandbox.fuel_per_ms);
    }

    #[test]
    fn the_ticker_ends_with_the_engine() {
        let sandbox = Sandbox::new(Settings::default()).unwrap();
        let weak = sandbox.engine.weak();
        drop(sandbox);
        let began = Instant::now();
        while weak.upgrade().is_some() {
            assert!(began.elapsed() < Duration::from_secs(5), "the ticker holds the engine");
            thread::yield_now();
        }
    }

    #[test]
    fn a_machine_without_address_space_still_gets_an_engine() {
        let huge = Settings { lanes: 20_000, transforms: 8, ..Settings::default() };
        let sandbox = Sandbox::new(huge);
        assert!(sandbox.is_ok(), "{:?}", sandbox.err());
    }

    #[test]
    fn a_memory_ceiling_out_of_bounds_is_refused() {
        for memory in [0, (1 << 16) - 1, limits::MAX_MEMORY + 1] {
            let refused = Sandbox::new(Settings { memory, ..Settings::default() });
            assert!(matches!(refused, Err(SandboxError::Memory { .. })), "{memory}");
        }
    }
}
