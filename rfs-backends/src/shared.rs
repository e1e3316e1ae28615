//! What all stores on one backend have in common, whatever their prefixes.

use crate::{Meter, bandwidth::Bandwidth, circuit::Circuit, hedge::Hedges, upload::Leftovers};
use object_store::multipart::MultipartStore;
use std::sync::Arc;

#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) meter: Meter,
    /// The backend once more, where it lets a part be sent again.
    pub(crate) parts: Option<Arc<dyn MultipartStore>>,
    pub(crate) leftovers: Leftovers,
    pub(crate) circuit: Circuit,
    pub(crate) hedges: Hedges,
    pub(crate) up: Bandwidth,
    pub(crate) down: Bandwidth,
}
