//! Spans and events of the client, of this thread and with it of this test, as data.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, OnceLock};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{DefaultGuard, NoSubscriber};
use tracing::{Dispatch, Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

/// One span, or one event.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) is_span: bool,
    pub(crate) level: Level,
    /// Of a span its name, of an event its message.
    pub(crate) name: String,
    pub(crate) target: &'static str,
    /// All that it may have.
    pub(crate) names: Vec<&'static str>,
    /// Those that have a value.
    pub(crate) fields: BTreeMap<&'static str, String>,
    /// The span around it.
    pub(crate) parent: Option<usize>,
}

impl Item {
    pub(crate) fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }
}

type Items = Arc<Mutex<Vec<Item>>>;

pub(crate) struct Recorded(Items, #[allow(dead_code, reason = "held")] DefaultGuard);

/// Whether a span or event is of interest is remembered for all threads. As long as there is one
/// subscriber alone, tracing asks that of the thread that comes by first, which may be that of
/// a test without any; of two, it asks both.
pub(crate) fn ask_every_thread() {
    static SECOND: OnceLock<Dispatch> = OnceLock::new();
    SECOND.get_or_init(|| Dispatch::new(NoSubscriber::default()));
}

impl Recorded {
    /// Records up to this level.
    pub(crate) fn begin(level: Level) -> Self {
        ask_every_thread();
        let items = Items::default();
        let recorder = Recorder(items.clone()).with_filter(tracing_subscriber::filter::LevelFilter::from_level(level));
        let subscriber = tracing_subscriber::registry().with(recorder);
        Self(items, tracing::subscriber::set_default(subscriber))
    }

    /// All that was recorded of the client, in order.
    pub(crate) fn items(&self) -> Vec<Item> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn events(&self) -> Vec<Item> {
        self.items().into_iter().filter(|item| !item.is_span).collect()
    }

    /// The names of the spans around one, the innermost first.
    pub(crate) fn around(&self, item: &Item) -> Vec<Item> {
        let items = self.items();
        let parents = std::iter::successors(item.parent, |&number| items[number].parent);
        parents.map(|number| items[number].clone()).collect()
    }
}

/// The number of a span's item.
struct Number(usize);

struct Recorder(Items);

impl Recorder {
    fn push(&self, metadata: &'static Metadata<'static>, is_span: bool, read: impl FnOnce(&mut Item)) -> usize {
        let mut item = Item {
            is_span,
            level: *metadata.level(),
            name: metadata.name().to_owned(),
            target: metadata.target(),
            names: metadata.fields().iter().map(|field| field.name()).collect(),
            fields: BTreeMap::new(),
            parent: None,
        };
        item.names.retain(|name| *name != "message");
        read(&mut item);
        if !is_span {
            item.name = item.fields.remove("message").unwrap_or_default();
        }
        let mut items = self.0.lock().unwrap();
        items.push(item);
        items.len() - 1
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Recorder {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if !attributes.metadata().target().starts_with("tars_mqtt") {
            return;
        }
        let span = context.span(id).unwrap();
        let parent = span.parent().and_then(|parent| number(&parent));
        let pushed = self.push(attributes.metadata(), true, |item| {
            item.parent = parent;
            attributes.record(item);
        });
        span.extensions_mut().insert(Number(pushed));
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(number) = number(&context.span(id).unwrap()) {
            values.record(&mut self.0.lock().unwrap()[number]);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if !event.metadata().target().starts_with("tars_mqtt") {
            return;
        }
        let parent = context.event_span(event).and_then(|span| number(&span));
        self.push(event.metadata(), false, |item| {
            item.parent = parent;
            event.record(item);
        });
    }
}

fn number<'a, S: LookupSpan<'a>>(span: &tracing_subscriber::registry::SpanRef<'a, S>) -> Option<usize> {
    span.extensions().get::<Number>().map(|number| number.0)
}

impl Visit for Item {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.fields.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.insert(field.name(), value.to_owned());
    }
}
