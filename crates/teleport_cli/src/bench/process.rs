//! What the system knows about a node's process.

use std::path::PathBuf;
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

/// What a process has of the system, and has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Resident memory.
    pub(crate) rss_kib: u64,
    /// Of it, memory that no file stands for.
    pub(crate) anonymous_kib: u64,
    /// Open descriptors.
    pub(crate) descriptors: u64,
    /// Threads there are.
    pub(crate) threads: u64,
    /// How often these threads went to sleep.
    pub(crate) voluntary: u64,
    /// How often others had their turn instead.
    pub(crate) involuntary: u64,
    /// CPU time of all threads.
    pub(crate) cpu: Duration,
}

impl Usage {
    /// Of a process that runs.
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        let process = PathBuf::from(format!("/proc/{pid}"));
        let status = fs::read_to_string(process.join("status"))?;
        let mut usage = Self {
            rss_kib: figure(&status, "VmRSS:")?,
            anonymous_kib: figure(&status, "RssAnon:")?,
            descriptors: fs::read_dir(process.join("fd"))?.count() as u64,
            threads: figure(&status, "Threads:")?,
            voluntary: 0,
            involuntary: 0,
            cpu: cpu_time(pid)?,
        };
        // The process's own status has the switches of its first thread only.
        for thread in fs::read_dir(process.join("task"))? {
            // It may have ended since it was listed.
            let Ok(status) = fs::read_to_string(thread?.path().join("status")) else { continue };
            usage.voluntary += figure(&status, "voluntary_ctxt_switches:")?;
            usage.involuntary += figure(&status, "nonvoluntary_ctxt_switches:")?;
        }
        Ok(usage)
    }
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

fn figure(status: &str, name: &str) -> io::Result<u64> {
    let missing = || io::Error::new(io::ErrorKind::InvalidData, format!("no {name} in a status"));
    let value = status.lines().find_map(|line| line.strip_prefix(name)).ok_or_else(missing)?;
    value.trim().trim_end_matches(" kB").parse().map_err(|_| missing())
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
    use std::sync::mpsc::RecvTimeoutError;

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
    fn a_sleeping_thread_shows_in_ones_own_usage() {
        let pid = std::process::id();
        let before = Usage::of(pid).unwrap();
        assert!(before.rss_kib > before.anonymous_kib && before.anonymous_kib > 0, "{before:?}");
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let sleeping = move || {
            while ended.recv_timeout(Duration::from_millis(1)) == Err(RecvTimeoutError::Timeout) {}
        };
        let (file, thread) = (fs::File::open("/proc/self/status").unwrap(), std::thread::spawn(sleeping));
        // Others may sleep, too, or end meanwhile, and what they have slept with them.
        let mut last = before.voluntary;
        loop {
            let now = Usage::of(pid).unwrap().voluntary;
            if now > last {
                break;
            }
            last = now;
            std::thread::yield_now();
        }
        let with = Usage::of(pid).unwrap();
        assert!(with.threads > 1 && with.descriptors > 3, "{with:?}");
        drop((end, file));
        thread.join().unwrap();
    }

    #[test]
    fn the_peak_is_read_from_the_status() {
        assert_eq!(peak_rss_kib("Name:\tx\nVmHWM:\t   12345 kB\nVmRSS:\t 1 kB\n"), Some(12345));
        assert_eq!(peak_rss_kib("Name:\tx\n"), None);
    }
}
