//! galley-core.
