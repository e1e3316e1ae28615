//! Forks: they begin with a state of another volume, borrow its objects, and go on for themselves.

use std::time::Duration;

use rfs::{At, ErrorKind, Options, Store, Timestamp, Volume};

use crate::common::{Place, listing, memory_url, on_each_store, options};

on_each_store! {
    both_go_on
    forks_of_forks_borrow_from_all
    what_is_collected_is_not_what_a_fork_needs
}

fn on(place: &Place, seed: u64) -> Options {
    place.on(seed).with_retention(1, Duration::ZERO).with_image_every(1 << 20, 3)
}

fn beside(place: &Place, name: &str) -> String {
    format!("{}-{name}", place.url)
}

/// Some files, a checkpoint in the middle of them, and images.
async fn filled(place: &Place, seed: u64) -> Volume {
    let volume = Volume::create(&place.url, on(place, seed)).await.unwrap();
    fill(&volume, 0..6).await;
    volume.checkpoint("middle").await.unwrap().wait().await.unwrap();
    fill(&volume, 6..12).await;
    volume
}

async fn fill(volume: &Volume, steps: std::ops::Range<u8>) {
    let fs = volume.fs();
    for step in steps {
        fs.create_dir_all(format!("/d{}", step % 4)).await.unwrap();
        fs.write(format!("/d{}/f{step}", step % 4), vec![step; 3000 * usize::from(step)]).await.unwrap();
        fs.write("/log", vec![step; 10]).await.unwrap();
        volume.commit().await.unwrap();
    }
}

async fn opened(place: &Place, url: &str, seed: u64) -> Volume {
    Volume::open(url, on(&place.at(url), seed)).await.unwrap()
}

/// What a volume that is opened anew, on another machine, says.
async fn found(place: &Place, url: &str) -> Vec<String> {
    let reader = Volume::open_read_only(url, on(&place.at(url), 77), At::Head).await.unwrap();
    reader.check().await.unwrap();
    listing(&reader).await
}

async fn both_go_on(place: Place) {
    for seed in 0..2 {
        let place = place.at(beside(&place, &format!("both{seed}")));
        let volume = filled(&place, seed).await;
        let middle = Volume::open_read_only(&place.url, on(&place, 9), At::Checkpoint("middle".into()));
        let middle = listing(&middle.await.unwrap()).await;
        volume.fs().write("/not committed yet", b"1").await.unwrap();
        let now = listing(&volume).await;
        let (of_now, of_middle) = (beside(&place, "now"), beside(&place, "middle"));
        volume.fork(&of_now, &At::Head).await.unwrap();
        volume.fork(&of_middle, &At::Checkpoint("middle".to_owned())).await.unwrap();
        let taken = volume.fork(&of_now, &At::Head).await.unwrap_err();
        assert_eq!(taken.kind(), ErrorKind::Invalid, "{taken}");
        assert_eq!(volume.pins().await.unwrap().len(), 2, "that of the refused one is gone");

        // Before anybody wrote to them.
        assert_eq!(found(&place, &of_now).await, now);
        assert_eq!(found(&place, &of_middle).await, middle);
        let one = opened(&place, &of_now, seed + 10).await;
        let two = opened(&place, &of_middle, seed + 20).await;
        assert_eq!((one.checkpoints(), two.checkpoints()), (vec![], vec![]));
        assert_ne!(one.id(), volume.id());
        for (number, fork) in [&one, &two].into_iter().enumerate() {
            fork.fs().remove_file("/d1/f1").await.unwrap();
            fill(fork, 20..24).await;
            fork.checkpoint("own").await.unwrap().wait().await.unwrap();
            fork.fs().write("/number", [number as u8]).await.unwrap();
            fork.collect_garbage().await.unwrap();
        }
        volume.fs().remove_dir_all("/d2").await.unwrap();
        fill(&volume, 30..34).await;
        volume.collect_garbage().await.unwrap();
        for (fork, url, before) in
            [(one, &of_now, &now), (two, &of_middle, &middle), (volume, &place.url, &now)]
        {
            let expected = listing(&fork).await;
            assert_ne!(expected, *before);
            let hash = fork.state_hash().await.unwrap();
            fork.close().await.unwrap();
            assert_eq!(found(&place, url).await, expected);
            let again = opened(&place, url, seed + 30).await;
            assert_eq!(again.state_hash().await.unwrap(), hash);
            assert_eq!(listing(&again).await, expected);
        }
    }
}

async fn forks_of_forks_borrow_from_all(place: Place) {
    let first = filled(&place, 1).await;
    let (second_url, third_url) = (beside(&place, "second"), beside(&place, "third"));
    first.fork(&second_url, &At::Checkpoint("middle".to_owned())).await.unwrap();
    let second = opened(&place, &second_url, 2).await;
    second.fs().write("/second", vec![2; 5000]).await.unwrap();
    second.fork(&third_url, &At::Head).await.unwrap();
    let third = opened(&place, &third_url, 3).await;
    fill(&third, 40..45).await;
    let expected = listing(&third).await;
    // A fork that nobody has written to is forked as well.
    let (fourth_url, fifth_url) = (beside(&place, "fourth"), beside(&place, "fifth"));
    third.fork(&fourth_url, &At::Head).await.unwrap();
    let unwritten =
        Volume::open_read_only(&fourth_url, on(&place.at(&fourth_url), 4), At::Head).await.unwrap();
    unwritten.fork(&fifth_url, &At::Head).await.unwrap();
    assert_eq!(found(&place, &fifth_url).await, expected);

    for volume in [&first, &second] {
        for dir in ["/d0", "/d1", "/d2", "/d3"] {
            volume.fs().remove_dir_all(dir).await.unwrap();
        }
        fill(volume, 50..56).await;
    }
    first.drop_checkpoint("middle").await.unwrap();
    first.commit().await.unwrap();
    for _ in 0..2 {
        for volume in [&third, &second, &first] {
            volume.collect_garbage().await.unwrap();
        }
    }
    for url in [&third_url, &fourth_url, &fifth_url] {
        assert_eq!(found(&place, url).await, expected, "{url}");
    }
    // The second one needs nobody any more; what the others borrow from the first through it stays.
    second.detach().await.unwrap();
    for volume in [&second, &first, &second, &first] {
        volume.collect_garbage().await.unwrap();
    }
    for url in [&third_url, &fourth_url, &fifth_url] {
        assert_eq!(found(&place, url).await, expected, "{url}");
    }
    let fourth = opened(&place, &fourth_url, 5).await;
    let fifth = opened(&place, &fifth_url, 6).await;
    for volume in [&third, &fourth, &fifth] {
        volume.detach().await.unwrap();
    }
    for volume in [&fifth, &fourth, &third, &second, &first] {
        volume.collect_garbage().await.unwrap();
    }
    assert_eq!(first.pins().await.unwrap(), []);
    for url in [&third_url, &fourth_url, &fifth_url] {
        assert_eq!(found(&place, url).await, expected, "{url}");
    }
}

/// What a fork needs stays for exactly as long as it does.
async fn what_is_collected_is_not_what_a_fork_needs(place: Place) {
    let volume = filled(&place, 1).await;
    let fork_url = beside(&place, "fork");
    let forked = volume.fork(&fork_url, &At::Head).await.unwrap();
    let pins = volume.pins().await.unwrap();
    assert_eq!(
        pins.iter().map(|pin| (pin.id, pin.at, pin.fork)).collect::<Vec<_>>(),
        [(forked.pin, forked.at, Some(forked.volume))]
    );
    let fork = opened(&place, &fork_url, 2).await;
    let expected = listing(&fork).await;
    volume.drop_checkpoint("middle").await.unwrap();
    for dir in ["/d0", "/d1", "/d2", "/d3"] {
        volume.fs().remove_dir_all(dir).await.unwrap();
    }
    fill(&volume, 12..16).await;
    // Closing waits for an image: what came before that is not needed to get to the newest state any more.
    volume.close().await.unwrap();
    let volume = opened(&place, &place.url, 5).await;
    volume.collect_garbage().await.unwrap();
    assert_eq!(listing(&fork).await, expected);
    assert_eq!(found(&place, &fork_url).await, expected);

    // Less is needed, and less is kept.
    for dir in ["/d1", "/d2"] {
        fork.fs().remove_dir_all(dir).await.unwrap();
    }
    fill(&fork, 20..26).await;
    // Closing waits for an image: what came before that is not replayed any more.
    fork.close().await.unwrap();
    let fork = opened(&place, &fork_url, 4).await;
    fork.collect_garbage().await.unwrap();
    let kept = volume.pins().await.unwrap()[0].objects;
    assert!(kept.is_some_and(|kept| kept > 0), "{kept:?}");
    let less = volume.collect_garbage().await.unwrap();
    assert!(less.objects > 0, "{less:?}");
    let expected = listing(&fork).await;
    assert_eq!(found(&place, &fork_url).await, expected);

    let detached = fork.detach().await.unwrap();
    assert!(detached.objects > 0 && detached.bytes > 0, "{detached:?}");
    assert_eq!(fork.detach().await.unwrap().objects, 0);
    assert_eq!(volume.pins().await.unwrap(), []);
    volume.collect_garbage().await.unwrap();
    assert_eq!(listing(&fork).await, expected);
    // Whatever becomes of the parent.
    let hash = fork.state_hash().await.unwrap();
    volume.close().await.unwrap();
    let store = Store::from_url(&place.url, place.options.clone()).unwrap();
    for object in store.list("", None).await.unwrap() {
        store.delete(&object.key).await.unwrap();
    }
    assert_eq!(found(&place, &fork_url).await, expected);
    fork.close().await.unwrap();
    let fork = opened(&place, &fork_url, 3).await;
    assert_eq!(fork.state_hash().await.unwrap(), hash);
    // And the copies go when nothing needs them.
    for dir in ["/d0", "/d3"] {
        fork.fs().remove_dir_all(dir).await.unwrap();
    }
    fill(&fork, 30..36).await;
    fork.collect_garbage().await.unwrap();
    let expected = listing(&fork).await;
    assert_eq!(found(&place, &fork_url).await, expected);
}

#[tokio::test]
async fn a_fork_costs_three_requests() {
    let place = Place::memory("a_fork_costs_three_requests");
    let volume = filled(&place, 1).await;
    volume.commit().await.unwrap();
    for (number, at) in [At::Head, At::Checkpoint("middle".to_owned())].iter().enumerate() {
        let before = volume.metered();
        volume.fork(&beside(&place, &number.to_string()), at).await.unwrap();
        let sent = volume.metered() - before;
        let requests = sent.requests();
        assert!(requests <= 3, "{sent}");
    }
}

#[tokio::test]
async fn a_pin_keeps_a_state_until_it_ends() {
    let place = Place::memory("a_pin_keeps_a_state_until_it_ends");
    let volume = filled(&place, 1).await;
    let receipt = volume.commit().await.unwrap();
    let expected = listing(&volume).await;
    let reader = Volume::open_read_only(&place.url, on(&place, 3), At::Head).await.unwrap();
    let far = Timestamp::from_nanos(i64::MAX);
    let past = Timestamp::from_nanos(1);
    let pin = reader.pin(&At::Head, "a test", Some(far)).await.unwrap();
    assert_eq!((pin.at, pin.owner.as_str(), pin.expires), (receipt.commit, "a test", Some(far)));
    volume.fs().remove_dir_all("/d1").await.unwrap();
    fill(&volume, 20..26).await;
    volume.collect_garbage().await.unwrap();
    let pinned = Volume::open_read_only(&place.url, on(&place, 4), At::Commit(receipt.commit)).await.unwrap();
    assert_eq!(listing(&pinned).await, expected);

    volume.unpin(pin.id).await.unwrap();
    volume.collect_garbage().await.unwrap();
    let over = reader.pin(&At::Commit(receipt.commit), "a test", Some(past)).await.unwrap_err();
    assert_eq!(over.kind(), ErrorKind::NoSuchState, "a collection said that it does not keep it: {over}");
    volume.collect_garbage().await.unwrap();
    let error =
        Volume::open_read_only(&place.url, on(&place, 5), At::Commit(receipt.commit)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSuchState, "{error}");

    let pin = volume.pin(&At::Head, "a test", Some(past)).await.unwrap();
    fill(&volume, 30..36).await;
    volume.collect_garbage().await.unwrap();
    assert!(!volume.pins().await.unwrap().contains(&pin), "it is over");
}

#[tokio::test]
async fn what_cannot_be_forked_is_told() {
    let place = Place::memory("what_cannot_be_forked_is_told");
    let volume = filled(&place, 1).await;
    for at in [At::Checkpoint("nobody".to_owned()), At::Commit(rfs::CommitId { epoch: 1, number: 99 })] {
        let error = volume.fork(&beside(&place, "none"), &at).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoSuchState, "{error}");
    }
    let error = volume.fork("nonsense", &At::Head).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert_eq!(volume.pins().await.unwrap(), []);
    let nameless = Volume::create("memory://", options(1)).await.unwrap();
    let error = nameless.fork(&memory_url("of-nameless"), &At::Head).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
}

/// A fork that copied what it borrows and wrote nothing yet has a head that is named after its parent. Who forks it needs
/// the copies.
#[tokio::test]
async fn a_fork_of_copies_keeps_them() {
    let place = Place::memory("a_fork_of_copies_keeps_them");
    let volume = filled(&place, 1).await;
    let (copies, fork, further) =
        (beside(&place, "copies"), beside(&place, "fork"), beside(&place, "further"));
    volume.fork(&copies, &At::Head).await.unwrap();
    let copied = opened(&place, &copies, 2).await;
    copied.detach().await.unwrap();
    copied.fork(&fork, &At::Head).await.unwrap();
    let expected = listing(&volume).await;
    // And so does who forks that one, once it is the only one to need them.
    let forked = opened(&place, &fork, 3).await;
    forked.fork(&further, &At::Head).await.unwrap();
    for (other, steps) in [(&copied, 12..24), (&forked, 24..36)] {
        fill(other, steps).await;
        other.collect_garbage().await.unwrap();
        copied.collect_garbage().await.unwrap();
        assert_eq!(found(&place, &further).await, expected);
    }
}

/// A fork of a fork that wrote nothing: the parent keeps that state for the first one only.
#[tokio::test]
async fn what_is_kept_for_a_fork_can_be_forked() {
    let place = Place::memory("what_is_kept_for_a_fork_can_be_forked");
    let volume = filled(&place, 1).await;
    let (first, second) = (beside(&place, "first"), beside(&place, "second"));
    volume.fork(&first, &At::Head).await.unwrap();
    let expected = listing(&volume).await;
    fill(&volume, 12..24).await;
    volume.collect_garbage().await.unwrap();
    let forked = opened(&place, &first, 2).await;
    forked.collect_garbage().await.unwrap();
    forked.fork(&second, &At::Head).await.unwrap();
    fill(&forked, 24..36).await;
    forked.collect_garbage().await.unwrap();
    volume.collect_garbage().await.unwrap();
    assert_eq!(found(&place, &second).await, expected);
}

/// Found by the simulator: a writer that was taken over, and did not know it, forked a state of which it knew that it is
/// kept, and which its successor had collected.
#[tokio::test]
async fn a_writer_that_was_taken_over_forks_and_pins_nothing() {
    let place = Place::memory("a_writer_that_was_taken_over_forks_and_pins_nothing");
    let volume = filled(&place, 1).await;
    volume.commit().await.unwrap();
    let next = Volume::open(&place.url, on(&place, 2)).await.unwrap();
    next.drop_checkpoint("middle").await.unwrap();
    next.commit().await.unwrap();
    next.collect_garbage().await.unwrap();

    let middle = At::Checkpoint("middle".to_owned());
    let url = beside(&place, "late");
    let error = volume.fork(&url, &middle).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
    let error = volume.pin(&middle, "a test", None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
    let late = place.at(url);
    let error = Volume::open_read_only(&late.url, on(&late, 3), At::Head).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoVolume, "{error}");
    assert_eq!(next.pins().await.unwrap(), [], "what was put was taken away");
    next.close().await.unwrap();
}
