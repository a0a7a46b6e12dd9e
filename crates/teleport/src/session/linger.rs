//! A short rest between two writes, so that more goes out with the next.
//!
//! In a flood of small messages a connection's task is done with a batch before many more have come, sleeps, and is woken
//! for the next few: the wake-ups cost more than the messages, on both sides. So behind a batch of many messages it
//! rests, and what comes meanwhile wakes nobody. Network cards moderate their interrupts for the same reason.

use std::time::Duration;

/// A batch of this many messages is part of a flood. More than a number of callers who each wait for an answer make.
pub(super) const MANY: usize = 16;

/// How long to rest: long enough for a hundred messages of a flood, and not much beside what a flood waits anyway.
const REST: Duration = Duration::from_micros(100);

/// A timer of finer grain than the runtime's.
#[derive(Default)]
pub(super) struct Linger(Option<timer::Timer>);

impl Linger {
    /// Rests.
    pub(super) async fn rest(&mut self) {
        if self.0.is_none() {
            self.0 = timer::Timer::new().ok();
        }
        let rested = match &self.0 {
            Some(timer) => timer.wait(REST).await.is_ok(),
            None => false,
        };
        if !rested {
            tokio::task::yield_now().await;
        }
    }
}

#[cfg(target_os = "linux")]
mod timer {
    use rustix::fd::OwnedFd;
    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };
    use std::io;
    use std::time::Duration;
    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;

    pub(super) struct Timer(AsyncFd<OwnedFd>);

    impl Timer {
        pub(super) fn new() -> io::Result<Self> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
            // SAFETY: an `OwnedFd` is open, and the same descriptor, until it is dropped, which the `AsyncFd` does last.
            #[allow(unsafe_code)]
            let timer = unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE)? };
            Ok(Self(timer))
        }

        pub(super) async fn wait(&self, duration: Duration) -> io::Result<()> {
            let never = Timespec { tv_sec: 0, tv_nsec: 0 };
            let once = Timespec { tv_sec: 0, tv_nsec: duration.subsec_nanos().into() };
            let setting = Itimerspec { it_interval: never, it_value: once };
            // Setting it anew takes back that it has gone off.
            timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &setting)?;
            self.0.readable().await?.clear_ready();
            Ok(())
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod timer {
    use std::io;
    use std::time::Duration;

    /// There is none.
    pub(super) struct Timer;

    impl Timer {
        pub(super) fn new() -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub(super) async fn wait(&self, _: Duration) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }
}
