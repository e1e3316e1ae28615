//! Goes through all states.

use std::fmt;

use stateright::{Checker, HasDiscoveries, Model};

use crate::loss::{Loss, loss};
use crate::world::{Action, Protocol};

/// What was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// How many different states were seen.
    pub states: usize,
    /// What is lost, and the shortest way to it.
    pub loss: Option<(Loss, Vec<Action>)>,
}

/// Goes through all states of the protocol within its bounds, nearest first, until something is lost.
pub fn explore(protocol: Protocol) -> Found {
    let checker = protocol.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let lost = checker.discovery("nothing is lost").and_then(|path| {
        let lost = loss(path.last_state())?;
        Some((lost, path.into_actions()))
    });
    Found { states: checker.unique_state_count(), loss: lost }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((loss, way)) = &self.loss else {
            return write!(f, "nothing is lost in {} states", self.states);
        };
        writeln!(f, "{loss:?} after {} steps, {} states:", way.len(), self.states)?;
        way.iter().try_for_each(|step| writeln!(f, "  {step:?}"))
    }
}
