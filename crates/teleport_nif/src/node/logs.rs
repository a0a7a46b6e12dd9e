//! What the node has to say, for OTP's `logger`.
//!
//! It is said on any thread, also on schedulers, from which no message can be sent. So it waits here, as much as there is
//! room for; a thread tells the process that logs, and that fetches it. What finds no room is counted.

use crate::atoms;
use crate::lock::Lock;
use rustler::types::atom::Atom;
use rustler::{Encoder, Env, Error, LocalPid, NifResult, OwnedEnv, Term};
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Condvar, Once};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata, Subscriber, span};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry};

/// Records that wait for the process that logs.
const MOST_WAITING: usize = 256;

/// Bytes of one value: peers have a say in some of them.
const MOST_BYTES: usize = 1024;

static QUEUE: Lock<LogQueue> =
    Lock::new(LogQueue { records: VecDeque::new(), dropped: 0, logger: None, told: false, last: 0 });

/// Something waits, or the process that logs is another one.
static CHANGED: Condvar = Condvar::new();

/// What is worth being logged: one of [`LEVELS`].
static LEVEL: AtomicU8 = AtomicU8::new(0);

const LEVELS: [LevelFilter; 5] =
    [LevelFilter::OFF, LevelFilter::ERROR, LevelFilter::WARN, LevelFilter::INFO, LevelFilter::DEBUG];

struct LogQueue {
    records: VecDeque<Record>,
    dropped: u64,
    logger: Option<Logger>,
    /// The logger knows that something waits.
    told: bool,
    /// The number of the last logger.
    last: u64,
}

/// The process that logs.
#[derive(Clone, Copy)]
struct Logger {
    number: u64,
    process: LocalPid,
}

struct Record {
    level: Level,
    fields: Fields,
}

/// Of an event: what it says, and about what.
#[derive(Clone, Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, String)>,
}

/// The calling process logs from now on: it gets `teleport_logs` when something waits, and has to fetch it.
#[rustler::nif]
fn log_from(env: Env<'_>, level: Atom) -> NifResult<Atom> {
    let level = level_of(level).ok_or(Error::BadArg)?;
    install();
    let mut queue = QUEUE.lock();
    queue.last += 1;
    let logger = Logger { number: queue.last, process: env.pid() };
    (queue.logger, queue.told) = (Some(logger), false);
    drop(queue);
    set_level(level);
    let thread = std::thread::Builder::new().name("teleport logs".to_owned());
    let started = thread.spawn(move || tell(logger));
    Ok(if started.is_ok() { atoms::ok() } else { atoms::system() })
}

/// Nothing is logged any more.
#[rustler::nif]
fn log_nothing() -> Atom {
    stop();
    atoms::ok()
}

/// Ends the logging: records that wait are dropped.
pub(crate) fn stop() {
    set_level(0);
    let mut queue = QUEUE.lock();
    queue.records.clear();
    queue.logger = None;
    CHANGED.notify_all();
}

/// What waits, and how many found no room since the last time.
#[rustler::nif]
fn logs(env: Env<'_>) -> Term<'_> {
    let mut queue = QUEUE.lock();
    queue.told = false;
    let (records, dropped) = (std::mem::take(&mut queue.records), std::mem::take(&mut queue.dropped));
    drop(queue);
    let records: Vec<_> = records
        .into_iter()
        .map(|Record { level, fields }| (otp_level(level), fields.message, fields.others))
        .collect();
    (records, dropped).encode(env)
}

/// Whether there is a process that logs, be it one that has ended.
pub(crate) fn are_logged() -> bool {
    QUEUE.lock().logger.is_some()
}

fn level_of(level: Atom) -> Option<u8> {
    [atoms::none(), atoms::error(), atoms::warning(), atoms::info(), atoms::debug()]
        .into_iter()
        .zip(0..)
        .find_map(|(name, number)| (name == level).then_some(number))
}

fn otp_level(level: Level) -> Atom {
    match level {
        Level::ERROR => atoms::error(),
        Level::WARN => atoms::warning(),
        Level::INFO => atoms::info(),
        _ => atoms::debug(),
    }
}

fn set_level(level: u8) {
    LEVEL.store(level, Ordering::Relaxed);
    tracing::callsite::rebuild_interest_cache();
}

fn filter() -> LevelFilter {
    LEVELS[usize::from(LEVEL.load(Ordering::Relaxed)).min(LEVELS.len() - 1)]
}

/// There is one place for all events of a program. This library is the only one here that has any.
fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let _ = tracing::subscriber::set_global_default(Registry::default().with(Bridge));
    });
}

/// Tells a logger whenever something waits, until another one takes its place.
fn tell(logger: Logger) {
    let mut queue = QUEUE.lock();
    loop {
        let Some(Logger { number, process }) = queue.logger else { return };
        if number != logger.number {
            return;
        }
        if !queue.told && !queue.records.is_empty() {
            queue.told = true;
            drop(queue);
            // If it has ended, the next one is told.
            let _ = OwnedEnv::new().send_and_clear(&process, |_| atoms::teleport_logs());
            queue = QUEUE.lock();
        } else {
            queue = Lock::wait(queue, &CHANGED);
        }
    }
}

struct Bridge;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Bridge {
    fn enabled(&self, metadata: &Metadata<'_>, _context: Context<'_, S>) -> bool {
        metadata.target().starts_with("teleport") && *metadata.level() <= filter()
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(filter())
    }

    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(of_span) = span.extensions().get::<Fields>() {
                fields.others.extend_from_slice(&of_span.others);
            }
        }
        let mut queue = QUEUE.lock();
        if queue.logger.is_none() {
            return;
        }
        if queue.records.len() >= MOST_WAITING {
            queue.dropped += 1;
            return;
        }
        queue.records.push_back(Record { level: *event.metadata().level(), fields });
        CHANGED.notify_all();
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut value = format!("{value:?}");
        let end = (0..=MOST_BYTES.min(value.len())).rev().find(|end| value.is_char_boundary(*end));
        value.truncate(end.unwrap_or_default());
        match field.name() {
            "message" => self.message = value,
            name => self.others.push((name, value)),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}
