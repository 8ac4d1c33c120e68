//! pilot-core.
