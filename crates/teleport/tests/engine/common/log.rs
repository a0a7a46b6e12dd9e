//! What the program logs, for tests to look at.

use std::fmt::{Debug, Write};
use std::sync::{Mutex, OnceLock};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

/// Everything that the program logs, at all levels.
#[derive(Default)]
pub(crate) struct Log(Mutex<Vec<Record>>);

#[derive(Clone)]
pub(crate) struct Record {
    pub(crate) level: tracing::Level,
    /// The spans it is in, outermost first, and the event's own fields.
    pub(crate) text: String,
}

impl Log {
    /// Collects from now on; once for all tests of the process.
    pub(crate) fn collect() -> &'static Self {
        static LOG: OnceLock<Log> = OnceLock::new();
        static SET: OnceLock<()> = OnceLock::new();
        let log = LOG.get_or_init(Log::default);
        SET.get_or_init(|| {
            let subscriber = tracing_subscriber::registry().with(log);
            tracing::subscriber::set_global_default(subscriber).unwrap();
        });
        log
    }

    /// What was said with all these words in it.
    pub(crate) fn with(&self, words: &[&str]) -> Vec<Record> {
        let all = self.0.lock().unwrap();
        all.iter().filter(|record| words.iter().all(|word| record.text.contains(word))).cloned().collect()
    }

    pub(crate) fn levels(&self, words: &[&str]) -> Vec<tracing::Level> {
        self.with(words).into_iter().map(|record| record.level).collect()
    }
}

struct Fields(String);

impl tracing::field::Visit for Fields {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn Debug) {
        write!(self.0, "{}={value:?} ", field.name()).unwrap();
    }
}

impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> Layer<S> for &'static Log {
    fn on_new_span(
        &self,
        attributes: &tracing::span::Attributes<'_>,
        id: &tracing::span::Id,
        context: Context<'_, S>,
    ) {
        let mut fields = Fields(format!("{}: ", attributes.metadata().name()));
        attributes.record(&mut fields);
        context.span(id).unwrap().extensions_mut().insert(fields);
    }

    fn on_event(&self, event: &tracing::Event<'_>, context: Context<'_, S>) {
        if !event.metadata().target().starts_with("teleport") {
            return;
        }
        let mut text = String::new();
        for span in context.event_scope(event).into_iter().flatten().collect::<Vec<_>>().into_iter().rev() {
            text += &span.extensions().get::<Fields>().unwrap().0;
        }
        let mut fields = Fields(text);
        event.record(&mut fields);
        self.0.lock().unwrap().push(Record { level: *event.metadata().level(), text: fields.0 });
    }
}
