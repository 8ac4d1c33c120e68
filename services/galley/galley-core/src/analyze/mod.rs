//! Findings that need more than one object to see.
//!
//! They never refuse anything: an object may come before what it refers to. One file per finding; each reads the whole of [`Input`] and tells
//! what it finds in a stable order.

use std::sync::Arc;

use imbl::OrdMap;
use mesh_config::Object;
use mesh_types::{Finding, Key};

use crate::state::State;
use crate::world::World;

/// What an analysis reads. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Input {
    world: World,
    services: OrdMap<Key, Arc<Object>>,
}

impl Input {
    /// Of the newest revision.
    pub fn of(state: &State) -> Input {
        Input {
            world: state.world().clone(),
            services: state.services().clone(),
        }
    }
}

/// Every finding, in the order of the objects they are about.
pub fn analyze(input: &Input) -> Vec<Finding> {
    let _ = (&input.world, &input.services);
    Vec::new()
}
