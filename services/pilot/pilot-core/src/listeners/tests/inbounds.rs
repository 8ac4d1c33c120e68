//! inbounds
