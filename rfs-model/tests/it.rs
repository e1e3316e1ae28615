//! The protocol loses nothing within these bounds, and loses something as soon as one safeguard is taken away.

use rfs_model::{Bounds, Found, Loss, Protocol, Without, explore};

const LEAST: Bounds = Bounds::LEAST;
const CRASHES: Bounds = Bounds { crashes: 1, ..LEAST };
/// Nothing goes before there is an image: until then the newest state needs all.
const LOG: Bounds = Bounds { images: 1, collections: 1, ..LEAST };
const IMAGES: Bounds =
    Bounds { writers: 1, epochs: 1, commits: 3, images: 2, segments: 1, collections: 2, ..LEAST };
const SEGMENTS: Bounds = Bounds { segments: 1, ..LOG };
const NAMES: Bounds = Bounds { names: 1, ..LOG };
const PINS: Bounds = Bounds { pins: 1, ..LOG };
const PINS_OF_ONE: Bounds = Bounds { writers: 1, epochs: 1, ..PINS };
const PINS_OF_TWO: Bounds = Bounds { collections: 2, ..PINS };
const REWINDS: Bounds = Bounds { rewinds: 1, ..LOG };

fn run(bounds: Bounds, without: Option<Without>) -> Found {
    let found = explore(Protocol { bounds, without });
    println!("{without:?} in {bounds:?}: {found}");
    found
}

fn holds(bounds: Bounds) {
    let found = run(bounds, None);
    assert_eq!(found.loss.map(|(loss, _)| loss), None);
}

/// The safeguard is needed for what is lost without it; with it nothing is, in the same bounds.
fn is_needed(safeguard: Without, bounds: Bounds, expected: fn(&Loss) -> bool) {
    let (loss, way) =
        run(bounds, Some(safeguard)).loss.unwrap_or_else(|| panic!("without {safeguard:?} nothing is lost"));
    assert!(expected(&loss), "without {safeguard:?} {loss:?} is lost, after {way:?}");
    println!("without {safeguard:?}: {loss:?} after {} steps", way.len());
}

const fn acknowledged(loss: &Loss) -> bool {
    matches!(loss, Loss::Acknowledged(_))
}

const fn head(loss: &Loss) -> bool {
    matches!(loss, Loss::Head(_))
}

const fn pinned(loss: &Loss) -> bool {
    matches!(loss, Loss::Pinned(..))
}

#[test]
fn crashes_lose_nothing() {
    holds(CRASHES);
}

#[test]
fn collections_of_the_log_lose_nothing() {
    holds(LOG);
}

#[test]
fn images_of_one_writer_lose_nothing() {
    holds(IMAGES);
}

#[test]
fn segments_of_two_writers_lose_nothing() {
    holds(SEGMENTS);
}

#[test]
fn names_lose_nothing() {
    holds(NAMES);
}

#[test]
fn pins_lose_nothing() {
    holds(PINS);
}

#[test]
fn rewinds_lose_nothing() {
    holds(REWINDS);
}

#[test]
fn the_second_list_is_needed() {
    is_needed(Without::SecondList, LOG, acknowledged);
}

#[test]
fn the_read_back_is_needed() {
    is_needed(Without::ReadBack, LEAST, acknowledged);
}

#[test]
fn the_create_only_put_is_needed() {
    is_needed(Without::CreateOnly, LEAST, acknowledged);
}

#[test]
fn the_highest_of_each_epoch_is_needed() {
    is_needed(Without::HighestKept, LOG, acknowledged);
}

#[test]
fn that_a_commit_extends_the_head_is_needed() {
    is_needed(Without::Extends, LEAST, acknowledged);
}

#[test]
fn uploads_before_the_commit_are_needed() {
    is_needed(Without::UploadFirst, SEGMENTS, head);
}

#[test]
fn keeping_pages_that_no_commit_names_yet_is_needed() {
    is_needed(Without::NewestPagesKept, IMAGES, head);
}

#[test]
fn listing_the_pins_is_needed() {
    is_needed(Without::PinsListed, PINS_OF_ONE, pinned);
}

#[test]
fn saying_what_is_kept_is_needed() {
    is_needed(Without::SaysWhatIsKept, PINS_OF_ONE, pinned);
}

#[test]
fn putting_the_pin_before_looking_is_needed() {
    is_needed(Without::PinFirst, PINS_OF_ONE, pinned);
}

#[test]
fn saying_what_is_kept_by_epoch_is_needed() {
    is_needed(Without::KeptByEpoch, PINS_OF_TWO, pinned);
}

#[test]
fn keeping_what_is_gone_back_to_is_needed() {
    is_needed(Without::RewoundKept, REWINDS, head);
}

#[test]
fn asking_what_collections_keep_before_going_back_is_needed() {
    is_needed(Without::RewindAsks, REWINDS, head);
}

#[test]
fn the_second_look_for_a_fence_is_needed() {
    is_needed(Without::Recheck, REWINDS, head);
}
