//! Handles into the recorder that is installed when a client is built.

use ::metrics::{Key, Label, Level, Metadata, Recorder, SharedString, Unit, with_recorder};

use super::names::Metric;

const METADATA: Metadata<'static> = Metadata::new("tars_mqtt", Level::INFO, Some("tars_mqtt"));

fn register<T>(
    metric: &Metric,
    labels: &[(&'static str, &str)],
    describe: impl FnOnce(&dyn Recorder, Option<Unit>),
    handle: impl FnOnce(&dyn Recorder, &Key) -> T,
) -> T {
    let labels: Vec<_> = labels
        .iter()
        .map(|(name, value)| Label::new(*name, (*value).to_owned()))
        .collect();
    let unit = if metric.name.ends_with("_seconds") {
        Unit::Seconds
    } else {
        Unit::Count
    };
    with_recorder(|recorder| {
        describe(recorder, Some(unit));
        handle(recorder, &Key::from_parts(metric.name, labels))
    })
}

macro_rules! handle {
    ($name:ident, $describe:ident, $register:ident) => {
        /// Without a recorder, and by default, it does nothing.
        pub(crate) struct $name(::metrics::$name);

        impl $name {
            pub(crate) fn new(metric: &Metric, labels: &[(&'static str, &str)]) -> Self {
                let description = SharedString::const_str(metric.description);
                Self(register(
                    metric,
                    labels,
                    |recorder, unit| recorder.$describe(metric.name.into(), unit, description),
                    |recorder, key| recorder.$register(key, &METADATA),
                ))
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self(::metrics::$name::noop())
            }
        }
    };
}

handle!(Counter, describe_counter, register_counter);
handle!(Gauge, describe_gauge, register_gauge);
handle!(Histogram, describe_histogram, register_histogram);

impl Counter {
    pub(crate) fn add(&self, number: u64) {
        self.0.increment(number);
    }
}

impl Gauge {
    pub(crate) fn add(&self, number: usize) {
        self.0.increment(number as f64);
    }

    pub(crate) fn set(&self, number: usize) {
        self.0.set(number as f64);
    }

    pub(crate) fn remove(&self, number: usize) {
        self.0.decrement(number as f64);
    }
}

impl Histogram {
    pub(crate) fn record(&self, time: std::time::Duration) {
        self.0.record(time);
    }
}
