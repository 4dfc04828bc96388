//! Suites that span the crates; see `tests/`.
