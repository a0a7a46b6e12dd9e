//! Where figures go: to the recorder of the `metrics` facade, or without the feature of that name nowhere.

#[cfg(feature = "metrics")]
pub(crate) use facade::*;
#[cfg(not(feature = "metrics"))]
pub(crate) use nowhere::*;

#[cfg(feature = "metrics")]
mod facade {
    use crate::base::metrics::{Kind, METRICS, Metric, Unit};
    pub(crate) use metrics::{Counter, Gauge, Histogram, Label};
    use metrics::{describe_counter, describe_gauge, describe_histogram};

    /// Tells the recorder which metrics there are.
    pub(crate) fn describe() {
        for Metric { name, kind, unit, meaning, .. } in METRICS {
            let unit = match unit {
                Unit::Count => metrics::Unit::Count,
                Unit::Bytes => metrics::Unit::Bytes,
                Unit::Seconds => metrics::Unit::Seconds,
            };
            match kind {
                Kind::Counter => describe_counter!(*name, unit, *meaning),
                Kind::Gauge => describe_gauge!(*name, unit, *meaning),
                Kind::Histogram => describe_histogram!(*name, unit, *meaning),
            }
        }
    }

    pub(crate) fn counter(name: &'static str, labels: &[Label]) -> Counter {
        metrics::counter!(name, labels.iter())
    }

    pub(crate) fn gauge(name: &'static str, labels: &[Label]) -> Gauge {
        metrics::gauge!(name, labels.iter())
    }

    pub(crate) fn histogram(name: &'static str, labels: &[Label]) -> Histogram {
        metrics::histogram!(name, labels.iter())
    }
}

#[cfg(not(feature = "metrics"))]
mod nowhere {
    use std::time::Duration;

    /// A counter, gauge or histogram.
    #[derive(Debug, Clone)]
    pub(crate) struct Figure;
    pub(crate) use {Figure as Counter, Figure as Gauge, Figure as Histogram};

    #[derive(Debug, Clone)]
    pub(crate) struct Label;

    impl Label {
        pub(crate) fn new(_: &'static str, _: String) -> Self {
            Self
        }

        pub(crate) fn from_static_parts(_: &'static str, _: &'static str) -> Self {
            Self
        }
    }

    impl Figure {
        pub(crate) fn increment(&self, _: u64) {}
        pub(crate) fn set(&self, _: f64) {}
        pub(crate) fn record(&self, _: Duration) {}
    }

    pub(crate) fn describe() {}

    pub(crate) fn figure(_: &'static str, _: &[Label]) -> Figure {
        Figure
    }
    pub(crate) use {figure as counter, figure as gauge, figure as histogram};
}
