//! Suites that span the crates; see `tests/`.

pub mod chaos;
pub mod simulation;

/// The code in the documents, compiled and where possible run: one line a document.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../../README.md")]
    struct Readme;
    #[doc = include_str!("../../docs/architecture.md")]
    struct Architecture;
    #[doc = include_str!("../../docs/configuration.md")]
    struct Configuration;
    #[doc = include_str!("../../docs/migration.md")]
    struct Migration;
    #[doc = include_str!("../../docs/python-examples.md")]
    struct PythonExamples;
    #[doc = include_str!("../../docs/observability.md")]
    struct Observability;
    #[doc = include_str!("../../docs/operations.md")]
    struct Operations;
    #[doc = include_str!("../../docs/reliability.md")]
    struct Reliability;
    #[doc = include_str!("../../docs/security.md")]
    struct Security;
    #[doc = include_str!("../../docs/testing.md")]
    struct Testing;
}
