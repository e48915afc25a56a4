//! The functions that a guest may call, written by hand: `bindgen!` would copy each payload once more than needed.

use std::mem;

use wasmtime::component::{Linker, WasmList, WasmStr};
use wasmtime::{Engine, Result, StoreContextMut, Trap};

use crate::batch::{Bytes, FailureCode, bound};
use crate::guest::{Fault, Guest, Level, Verdict, clean};
use crate::limits;

pub(crate) const HOST: &str = "tollgate:transform/host@0.1.0";
pub(crate) const LOG: &str = "tollgate:transform/log@0.1.0";
pub(crate) const GUEST: &str = "tollgate:transform/guest@0.1.0";

/// Returns a linker with `host`, and with `log` if it is granted: a guest cannot call anything else.
pub(crate) fn linker(engine: &Engine, log: bool) -> Result<Linker<Guest>> {
    let mut linker = Linker::new(engine);
    let mut host = linker.instance(HOST)?;
    host.func_wrap("next", next)?;
    host.func_wrap("emit", emit)?;
    host.func_wrap("delete", delete)?;
    host.func_wrap("set-key", set_key)?;
    host.func_wrap("set-header", set_header)?;
    host.func_wrap("header", header)?;
    host.func_wrap("explain", explain)?;
    host.func_wrap("fail", fail)?;
    if log {
        linker.instance(LOG)?.func_wrap("write", write)?;
    }
    Ok(linker)
}

/// Ends the current event and begins the next one. This is the only place where fuel is granted; calling it more often
/// gives no more fuel, because the host counts the events.
fn next(mut store: StoreContextMut<Guest>, (settled,): (Verdict,)) -> Result<(u32,)> {
    let left = store.get_fuel()?;
    let guest = store.data_mut();
    let used = guest.terms.limits.fuel.saturating_sub(left);
    guest.settle(settled, used)?;
    let (index, fuel) = guest.advance();
    let ticks = guest.terms.ticks;
    store.set_fuel(fuel)?;
    store.set_epoch_deadline(ticks);
    store.data_mut().watch();
    Ok((index,))
}

fn emit(mut store: StoreContextMut<Guest>, (route, payload): (u32, WasmList<u8>)) -> Result<()> {
    store.data_mut().admit_output(route, payload.len())?;
    charge(&mut store, payload.len())?;
    let payload = append(&mut store, &payload);
    store.data_mut().push_output(route, payload);
    Ok(())
}

fn delete(mut store: StoreContextMut<Guest>, (route,): (u32,)) -> Result<()> {
    store.data_mut().admit_output(route, 0)?;
    charge(&mut store, 0)?;
    store.data_mut().push_output(route, Bytes::Null);
    Ok(())
}

fn set_key(mut store: StoreContextMut<Guest>, (key,): (WasmList<u8>,)) -> Result<()> {
    store.data_mut().admit_key(key.len())?;
    charge(&mut store, key.len())?;
    if let Bytes::Arena(range) = append(&mut store, &key) {
        store.data_mut().set_key(range);
    }
    Ok(())
}

fn set_header(mut store: StoreContextMut<Guest>, (name, value): (WasmStr, WasmList<u8>)) -> Result<()> {
    let name = name.to_str(&store)?.into_owned();
    store.data_mut().admit_header(&name, value.len())?;
    charge(&mut store, name.len() + value.len())?;
    let value = value.as_le_slice(&store).to_vec();
    store.data_mut().set_header(name, value);
    Ok(())
}

fn header(mut store: StoreContextMut<Guest>, (name,): (WasmStr,)) -> Result<(Option<Vec<u8>>,)> {
    let guest = store.data();
    let event = guest.event("header")?;
    let name = name.to_str(&store)?;
    let value = guest.events.headers.get(event, &name).map(<[u8]>::to_vec);
    let bytes = name.len() + value.as_ref().map_or(0, Vec::len);
    charge(&mut store, bytes)?;
    Ok((value,))
}

fn explain(mut store: StoreContextMut<Guest>, (code, field, message): (WasmStr, WasmStr, WasmStr)) -> Result<()> {
    let (code, field) = (code.to_str(&store)?.into_owned(), field.to_str(&store)?.into_owned());
    let message = message.to_str(&store)?.into_owned();
    store.data_mut().explain(&code, &field, &message)?;
    charge(&mut store, code.len() + field.len() + message.len())
}

fn fail(store: StoreContextMut<Guest>, (message,): (WasmStr,)) -> Result<()> {
    let message = clean(&message.to_str(&store)?, limits::MESSAGE_BYTES);
    Err(Fault::Event { code: FailureCode::Panic, message }.into())
}

fn write(mut store: StoreContextMut<Guest>, (level, message): (Level, WasmStr)) -> Result<()> {
    let message = message.to_str(&store)?.into_owned();
    charge(&mut store, message.len())?;
    store.data_mut().log(level, &message);
    Ok(())
}

/// Copies guest memory to the end of the arena without a temporary buffer.
fn append(store: &mut StoreContextMut<Guest>, list: &WasmList<u8>) -> Bytes {
    let mut arena = mem::take(&mut store.data_mut().work.results.arena);
    let start = bound(arena.len());
    arena.extend_from_slice(list.as_le_slice(&*store));
    let end = bound(arena.len());
    store.data_mut().work.results.arena = arena;
    Bytes::Arena(start..end)
}

/// Consumes the fuel for a call and the bytes it moves, as wasmtime does for a copy inside the guest.
fn charge(store: &mut StoreContextMut<Guest>, bytes: usize) -> Result<()> {
    let cost = limits::CALL_FUEL + bytes as u64;
    match store.get_fuel()?.checked_sub(cost) {
        Some(left) => store.set_fuel(left),
        None => {
            store.set_fuel(0)?;
            Err(Trap::OutOfFuel.into())
        }
    }
}
