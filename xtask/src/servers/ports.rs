//! Free ports that stay free until the server binds them.

use std::net::{Ipv4Addr, TcpListener};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

use crate::failure::{Failure, Result};

/// The range is below that of outgoing connections (from 32768 on Linux, from 49152 on macOS). So no other program
/// takes such a port by accident while its server is down in a restart test.
const FIRST: u32 = 20_000;
const COUNT: u32 = 10_000;

/// Returns a loopback port that nobody listens on, another one for each call. Processes start at different ports.
///
/// # Errors
/// Fails if all ports of the range are taken.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
    let start = nanos ^ process::id().wrapping_mul(2_654_435_761);
    // The first call sets the start. If the exchange fails, another call has set it.
    let _lost = NEXT.compare_exchange(0, start % COUNT + 1, Ordering::Relaxed, Ordering::Relaxed);
    pick(|| NEXT.fetch_add(1, Ordering::Relaxed), |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
}

fn pick(mut next: impl FnMut() -> u32, free: impl Fn(u16) -> bool) -> Result<u16> {
    (0..COUNT)
        .filter_map(|_| u16::try_from(FIRST + next() % COUNT).ok())
        .find(|port| free(*port))
        .ok_or_else(|| Failure::environment(format!("no free port between {FIRST} and {}", FIRST + COUNT - 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taken_ports_are_passed_over_and_the_range_wraps() {
        let mut count = COUNT - 2;
        let mut next = || {
            count += 1;
            count - 1
        };
        assert_eq!(pick(&mut next, |port| port < 29_000).unwrap(), 20_000);
        assert_eq!(pick(&mut next, |_| true).unwrap(), 20_001);
        assert_eq!(pick(&mut next, |_| false).unwrap_err().code, 3);
    }

    #[test]
    fn a_port_in_use_is_never_given() {
        let port = free_port().unwrap();
        let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        for _ in 0..50 {
            assert_ne!(free_port().unwrap(), port);
        }
    }
}
