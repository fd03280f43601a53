//! 2, `HelloAck`: a controller has heard another.

use serde::{Deserialize, Serialize};

/// Controller to controllers, in answer to `Hello`. A receiver records the neighbour and
/// the time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloAck {}
