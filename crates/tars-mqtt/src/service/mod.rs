//! What a service says about itself: health, heartbeat, and how it ends.

pub(crate) mod health;
pub(crate) mod heartbeat;
pub(crate) mod shutdown;
pub(crate) mod status;
