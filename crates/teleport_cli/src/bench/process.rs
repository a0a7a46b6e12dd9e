//! What the system knows about a node's process.

use std::time::Duration;
use std::{fs, io};

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

fn peak_rss_kib(status: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
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
        let before = cpu_time(pid).unwrap();
        while cpu_time(pid).unwrap() == before {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn status_line() {
        assert_eq!(peak_rss_kib("Name:\tx\nVmHWM:\t   12345 kB\nVmRSS:\t 1 kB\n"), Some(12345));
        assert_eq!(peak_rss_kib("Name:\tx\n"), None);
    }
}
