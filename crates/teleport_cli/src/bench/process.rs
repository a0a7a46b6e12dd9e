//! What the system knows about a node's process.

use std::time::Duration;
use std::{fs, io};

use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;

/// CPU time of all threads, also ended ones, in user and system mode.
///
/// From the process's CPU clock: /proc/PID/stat counts in steps of 10 ms, which is some per cent of a round.
pub(crate) fn cpu_time(pid: u32) -> io::Result<Duration> {
    let time = clock_getcpuclockid(process_id(pid)?).and_then(|clock| clock.now())?;
    Ok(time.into())
}

/// The most memory that was resident at any time, in MiB.
pub(crate) fn peak_rss_mib(pid: u32) -> io::Result<f64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path)?;
    let kib = peak_rss_kib(&status)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("no VmHWM in {path}")))?;
    Ok(kib as f64 / 1024.0)
}

/// Takes note of children that have ended. Whether any are left.
pub(crate) fn reap_children() -> bool {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => return true,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return false, // there are none
        }
    }
}

/// Memory that programs can have without others losing theirs, if the system says so.
pub(crate) fn available_bytes() -> Option<u64> {
    let machine = kib_of(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")?.checked_mul(1024)?;
    // A container may have less.
    let limit =
        |name| fs::read_to_string(format!("/sys/fs/cgroup/memory.{name}")).ok()?.trim().parse::<u64>().ok();
    let container = limit("max").map(|max| max.saturating_sub(limit("current").unwrap_or(0)));
    Some(container.map_or(machine, |container| container.min(machine)))
}

fn peak_rss_kib(status: &str) -> Option<u64> {
    kib_of(status, "VmHWM:")
}

fn kib_of(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    value.trim().strip_suffix("kB")?.trim_end().parse().ok()
}

fn process_id(pid: u32) -> io::Result<Pid> {
    let pid = i32::try_from(pid).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    Ok(Pid::from_raw(pid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_figures_are_plausible() {
        let pid = std::process::id();
        assert!(peak_rss_mib(pid).unwrap() > 0.5);
        assert!(available_bytes().unwrap() > 1 << 20);
        let before = cpu_time(pid).unwrap();
        while cpu_time(pid).unwrap() == before {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn the_peak_is_read_from_the_status() {
        assert_eq!(peak_rss_kib("Name:\tx\nVmHWM:\t   12345 kB\nVmRSS:\t 1 kB\n"), Some(12345));
        assert_eq!(peak_rss_kib("Name:\tx\n"), None);
    }
}
