//! A world for simulations: one seed fixes clock, scheduling, randomness, disks, store and network.
//!
//! A [`World`] runs on one thread, on tokio's paused clock: time passes only when every task waits, and then at once, so
//! that days cost nothing. In it there are [`Machine`]s, each with a disk of its own, on which [`Process`]es run one after
//! the other: they crash, fall asleep for as long as one likes, and wake. They reach the world's one store through a
//! [`Network`] with a [`Weather`]. Everything that happens is in the world's trace, which is part of the message when the
//! simulation fails, and what went wrong is counted.
//!
//! ```
//! use std::time::Duration;
//! use object_store::{ObjectStoreExt, path::Path};
//! use rfs_testkit::sim::{Accident, Weather, World};
//!
//! let found = World::run(7, |world| async move {
//!     world.set_weather(Weather::rough());
//!     let mut machine = world.machine("a");
//!     let process = machine.start();
//!     let store = process.store();
//!     // Whether it was answered or not, nobody knows what stands there before it is looked at.
//!     let path = Path::from("greeting");
//!     while store.put(&path, "hello".into()).await.is_err() {}
//!     process.crash();
//!     assert!(store.get(&path).await.is_err(), "who is dead reaches nothing");
//!     machine.suffer(Accident::PowerLoss);
//!     world.set_weather(Weather::calm());
//!     world.pause(Duration::from_hours(24)).await;
//!     machine.start().store().get(&path).await.unwrap().bytes().await.unwrap()
//! });
//! assert_eq!(found, "hello");
//! ```

mod machine;
mod network;
mod trace;
mod weather;
mod world;

pub use machine::{Accident, Machine, Process};
pub use network::Network;
pub use weather::Weather;
pub use world::{Failed, Report, World};
